"""`manage.py mongosessions newkey` and `encrypt`."""

import io
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import BaseCommand, CommandError, call_command

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.management import encrypting
from django_mongo_sessions.management.commands.mongosessions import Command
from django_mongo_sessions.mongo import bulk
from django_mongo_sessions.storage import codec, keyring
from tests.conftest import collection, count_sessions, encrypt_with

OLD, NEW, OTHER = (bytes([number]) * 31 + b"\0" for number in (1, 2, 3))
OLD_ID, NEW_ID, OTHER_ID = (keyring.MasterKey(secret).id.hex() for secret in (OLD, NEW, OTHER))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def call(*args, stderr=None):
    output = io.StringIO()
    call_command(
        "mongosessions", *args, stdout=output, stderr=stderr or io.StringIO(), no_color=True
    )
    return output.getvalue()


def save(**data):
    store = SessionStore()
    store.update(data)
    store.save()
    return store.session_key


def load(key):
    return SessionStore(key).load()


@pytest.fixture
def sessions(mongod_engine, monkeypatch):
    """A sealed session, one that the command has encrypted, and one that its cookie opens."""
    encrypt_with(monkeypatch)
    first = save(a=1)
    encrypt_with(monkeypatch, OLD, mode="transition")
    call("encrypt")
    bound = save(a=2)
    encrypt_with(monkeypatch)
    sealed = save(a=3)
    encrypt_with(monkeypatch, NEW, OLD, mode="transition")
    return sealed, first, bound


def forms():
    return sorted((each["payload"][:1], each.get("key_id")) for each in collection().find())


def test_what_can_be_encrypted_anew_is(sessions):
    before = {each["_id"]: each for each in collection().find()}
    assert forms() == [(b"\x01", None), (b"\x03", OLD_ID), (b"\x04", OLD_ID)]

    output = call("encrypt")

    assert f"Encrypted with the key {NEW_ID}: 2 sessions." in output
    assert (
        f"Encrypted with the key {OLD_ID}, and opened only by their cookies: 1 session." in output
    )
    assert forms() == [(b"\x03", NEW_ID), (b"\x03", NEW_ID), (b"\x04", OLD_ID)]
    for after in collection().find():
        same = {"payload": b"", "key_id": ""}
        assert {**before[after["_id"]], **same} == {**after, **same}
    assert [load(key)["a"] for key in sessions] == [3, 1, 2]
    assert ": 0 session" in call("encrypt")


def test_a_dry_run_changes_nothing(sessions):
    before = list(collection().find())

    assert "To be encrypted with" in call("encrypt", "--dry-run", "--sign-out-others")
    assert list(collection().find()) == before


def test_json_has_the_same_numbers(sessions):
    report = json.loads(call("encrypt", "--json"))

    assert report["key_id"] == NEW_ID
    assert report["encrypted"] == 2
    assert report["bound"][OLD_ID]["count"] == 1
    assert report["bound"][OLD_ID]["until"] > "20"
    assert (report["unopened"], report["signed_out"]) == (0, 0)


def test_the_others_can_be_ended(sessions, monkeypatch):
    encrypt_with(monkeypatch, OTHER, mode="only")
    save(a=4)
    encrypt_with(monkeypatch, NEW, OLD, mode="transition")
    with pytest.raises(CommandError, match="1 session cannot be opened") as failed:
        call("encrypt")
    assert failed.value.returncode == 1

    assert "Ended: 2 sessions" in call("encrypt", "--sign-out-others")
    assert forms() == [(b"\x03", NEW_ID), (b"\x03", NEW_ID)]


def test_the_last_end_is_that_of_the_session_that_lasts_longest(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, OLD)
    ends = []
    for _ in range(2):
        save(a=1)
    for days, each in zip((3, 1), collection().find(), strict=True):
        end = each["expires_at"] + timedelta(days=days)
        collection().update_one({"_id": each["_id"]}, {"$set": {"expires_at": end}})
        ends.append(end)
    encrypt_with(monkeypatch, NEW, OLD)

    report = json.loads(call("encrypt", "--json"))
    assert report["bound"][OLD_ID] == {"count": 2, "until": max(ends).isoformat()}


def test_under_only_what_is_not_encrypted_is_not_trusted(sessions, monkeypatch):
    encrypt_with(monkeypatch, NEW, OLD, mode="only")

    with pytest.raises(CommandError, match="1 session cannot"):
        call("encrypt")
    assert (b"\x01", None) in forms()


def test_a_save_that_comes_in_between_stays(sessions, monkeypatch):
    sealed, *_ = sessions
    read = bulk.find_not_encrypted_with

    def overtaken(*args):
        operation = read(*args)

        def call(target):
            found = operation.call(target)
            if found:
                store = SessionStore(sealed)
                store["b"] = 1
                store.save()
            return found

        return replace(operation, call=call)

    monkeypatch.setattr(bulk, "find_not_encrypted_with", overtaken)
    assert ": 1 session" in call("encrypt")

    assert load(sealed) == {"a": 3, "b": 1}
    assert (b"\x04", NEW_ID) in forms()


def test_a_request_that_has_loaded_before_saves_after(sessions):
    sealed, *_ = sessions
    store = SessionStore(sealed)
    store["b"] = store["a"]
    call("encrypt")
    store.save()

    assert load(sealed) == {"a": 3, "b": 3}


def test_a_document_that_names_another_key_than_its_payload_is_left_alone(
    mongod_engine, monkeypatch
):
    encrypt_with(monkeypatch, NEW)
    key = save(a=1)
    collection().update_one({}, {"$set": {"key_id": OLD_ID}})

    assert ": 0 session" in call("encrypt", "--sign-out-others")
    assert load(key) == {"a": 1}


def test_documents_of_any_kind_do_not_stop_it(sessions):
    extremes = {"expires_at": 2**62, "write_id": {"a": 1}}
    collection().insert_many([{"_id": b"\x01" + b"x" * 32, **extremes}, {"_id": "foreign"}])
    collection().update_one(
        {"_id": b"\x01" + b"x" * 32}, [{"$set": {"expires_at": {"$toDate": "$expires_at"}}}]
    )

    with pytest.raises(CommandError, match="1 session cannot"):
        call("encrypt")
    call("encrypt", "--sign-out-others")
    assert collection().count_documents({"_id": "foreign"}) == 1
    assert count_sessions() == 3


def test_it_goes_on_from_batch_to_batch(sessions, monkeypatch):
    monkeypatch.setattr(encrypting, "_BATCH", 1)
    terminal = Terminal()

    assert ": 2 session" in call("encrypt", stderr=terminal)
    assert "1 session read\r2 sessions read\r3 sessions read\r" in terminal.getvalue()


def test_with_verbosity_0_nothing_is_printed_but_a_trial(sessions):
    terminal = Terminal()

    assert "To be encrypted" in call("encrypt", "--dry-run", "-v", "0")
    assert call("encrypt", "--sign-out-others", "-v", "0", stderr=terminal) == ""
    assert terminal.getvalue() == ""


def test_an_interruption_loses_nothing(sessions, monkeypatch):
    monkeypatch.setattr(encrypting, "_BATCH", 1)
    real = bulk.update_many

    def interrupted(changes):
        monkeypatch.setattr(bulk, "update_many", interrupt)
        return real(changes)

    def interrupt(changes):
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "update_many", interrupted)
    with pytest.raises(CommandError, match="Run it again"):
        call("encrypt")
    monkeypatch.setattr(bulk, "update_many", real)

    assert ": 1 session" in call("encrypt")


@pytest.mark.parametrize("mode", [None, "prepare"])
def test_without_keys_nothing_is_encrypted(mongod_engine, monkeypatch, mode):
    encrypt_with(monkeypatch, *([NEW] if mode else []), mode=mode)

    with pytest.raises(CommandError, match='ENCRYPTION to "transition"'):
        call("encrypt")


def test_keys_that_cannot_be_had_are_reported(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: 1 / 0)

    with pytest.raises(CommandError, match="raised ZeroDivisionError"):
        call("encrypt")


def test_what_it_compresses_is_what_the_settings_say(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch)
    key = save(a="x" * 5000)
    encrypt_with(monkeypatch, NEW, mode="transition")
    encrypt_with(monkeypatch, NEW, mode="transition", COMPRESS=0)
    call("encrypt")

    assert len(collection().find_one()["payload"]) < 1000
    assert load(key) == {"a": "x" * 5000}
    assert collection().find_one()["payload"][:1] == codec.UNBOUND


# newkey


def test_newkey_prints_a_key_and_its_id(settings):
    settings.MONGO_SESSIONS = {"URI": "mongodb://127.0.0.1:1"}  # it needs no server
    errors = io.StringIO()

    key = call("newkey", stderr=errors)
    assert keyring.read([key.strip()]).ids()[0] in errors.getvalue()


# status


def test_status_counts_by_key(sessions):
    found = json.loads(call("status", "--json"))

    assert found["encryption"] == {
        "keys": [NEW_ID, OLD_ID],
        "by_key": {NEW_ID: 0, OLD_ID: 2},
        "by_unknown_key": {},
        "not_encrypted": 1,
    }
    assert found["settings"]["ENCRYPTION_KEYS"] == "a list of 2"
    assert found["settings"]["ENCRYPTION"] == "transition"
    assert found["settings"]["COMPRESS"] is False


def test_status_finds_keys_that_nobody_has(sessions, monkeypatch):
    encrypt_with(monkeypatch)

    found = json.loads(call("status", "--json"))
    assert found["encryption"]["by_unknown_key"] == {OLD_ID: 2}
    assert found["settings"]["COMPRESS"] == 4096


def test_status_says_when_its_counts_are_estimates(sessions, monkeypatch):
    monkeypatch.setattr("django_mongo_sessions.mongo.status.SAMPLE", 2)

    assert "figures: estimated too" in call("status")
    assert "estimated too" not in call("status", "--exact")


def test_status_without_encryption_says_nothing_of_it(mongod_engine):
    save(a=1)

    assert json.loads(call("status", "--json"))["encryption"] is None
    assert "encryption: none" in call("status")


def keys_of_a_vault():
    return [NEW]


def test_status_shows_the_name_of_a_source(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=keys_of_a_vault)

    shown = call("status")
    assert f"ENCRYPTION_KEYS: {__name__}.keys_of_a_vault" in shown
    assert f"{NEW_ID}: 0" in shown


def test_show_names_the_key(sessions):
    *_, bound = sessions

    shown = call("show", bound, "--data")
    assert "encrypted, and bound to its cookie" in shown
    assert f"key_id: {OLD_ID}" in shown
    assert "{'a': 2}" in shown


# Hosts on different steps


def test_a_save_of_a_host_that_encrypts_with_another_key_says_so(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch)
    key = save(a=1)
    encrypt_with(monkeypatch, OLD, NEW, mode="transition")
    call("encrypt")
    store = SessionStore(key)
    store["b"] = store["a"]
    encrypt_with(monkeypatch, NEW, OLD, mode="transition")
    call("encrypt")

    encrypt_with(monkeypatch, OLD, NEW, mode="transition")
    store.save()

    assert forms() == [(b"\x04", OLD_ID)]


def test_so_does_a_save_of_one_that_does_not_encrypt_yet(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, NEW, mode="prepare")
    key = save(a=1)
    store = SessionStore(key)
    store["b"] = store["a"]
    encrypt_with(monkeypatch, NEW, mode="transition")
    call("encrypt")

    encrypt_with(monkeypatch, NEW, mode="prepare")
    store.save()

    assert forms() == [(b"\x01", None)]
    encrypt_with(monkeypatch, NEW, mode="transition")
    call("encrypt")
    encrypt_with(monkeypatch, NEW, mode="only")
    assert load(key) == {"a": 1, "b": 1}


def test_a_key_that_is_only_then_learned_is_not_unknown(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, NEW)
    save(a=1)
    rings = [[OLD], [OLD, NEW]]
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: rings.pop(0), mode="transition")

    assert f"Encrypted with the key {NEW_ID}, and opened only by their cookies" in call("encrypt")


# Size


def test_what_is_large_is_read_and_written_in_smaller_batches(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch)
    for number in range(5):
        save(a="x" * 100, number=number)
    encrypt_with(monkeypatch, NEW, mode="transition")
    monkeypatch.setattr(bulk, "_BATCH_BYTES", 300)
    monkeypatch.setattr(encrypting, "_MAX_BYTES", 300)
    sent, update_many = [], bulk.update_many

    def note(changes):
        sent.append(len(changes))
        return update_many(changes)

    monkeypatch.setattr(bulk, "update_many", note)

    assert ": 5 sessions" in call("encrypt")

    assert len(sent) > 1
    assert sum(sent) == 5
    assert {key_id for _, key_id in forms()} == {NEW_ID}


def test_status_counts_without_the_keys(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, NEW)
    save(a=1)
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: 1 / 0)

    counted = json.loads(call("status", "--json"))["encryption"]

    assert counted["by_key"] == {NEW_ID: 1}
    assert "ZeroDivisionError" in counted["keys"]


def test_a_new_key_can_be_made_where_there_is_a_wrong_one(monkeypatch, capsys):
    encrypt_with(monkeypatch, "no key yet")

    BaseCommand.run_from_argv(Command(), ["manage.py", "mongosessions", "newkey"])

    assert len(capsys.readouterr().out.strip()) == 44
