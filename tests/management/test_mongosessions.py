"""`manage.py mongosessions`, subcommand by subcommand."""

import io
import json
import os
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import mongomock
import pytest
from bson.datetime_ms import DatetimeMS
from django.contrib.auth import SESSION_KEY
from django.core.management import CommandError, call_command

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients, errors
from django_mongo_sessions.engine import deleting
from django_mongo_sessions.management.commands.mongosessions import Command
from django_mongo_sessions.mongo import bulk, operations, status
from django_mongo_sessions.signals import session_revoked
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection


def call(*args):
    output = io.StringIO()
    call_command("mongosessions", *args, stdout=output, no_color=True)
    return output.getvalue()


@pytest.fixture
def store(mongod_engine):
    store = SessionStore()
    store.update({"book": "Sherlock Holmes", SESSION_KEY: "7"})
    store.save()
    return store


# Django's own options


OPTIONS = {"-v": "0", "--settings": "other_settings", "--pythonpath": "folder", "--traceback": None}
OPTIONS |= {"--no-color": None, "--skip-checks": None}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", ["status", "newkey", "revoke --all", "show -", "import an.engine"])
def test_every_option_of_djangos_may_stand_before_a_subcommand_and_after_it(name, place):
    given = [part for option in OPTIONS.items() for part in option if part is not None]
    words = name.split()

    options = vars(
        Command()
        .create_parser("manage.py", "mongosessions")
        .parse_args([*given, *words] if place == "before" else [*words, *given])
    )

    assert options["subcommand"] == words[0]
    assert (options["verbosity"], options["settings"]) == (0, "other_settings")
    assert options["pythonpath"] == "folder"
    assert all(options[name] for name in ("traceback", "no_color", "skip_checks"))
    assert not options["force_color"]


def test_what_stands_after_the_subcommand_counts():
    parser = Command().create_parser("manage.py", "mongosessions")

    assert parser.parse_args(["-v", "2", "users", "-v", "3"]).verbosity == 3
    assert parser.parse_args(["users"]).verbosity == 1


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_settings_that_are_named_are_those_of_the_site(tmp_path, place):
    (tmp_path / "named_settings.py").write_text(
        'SECRET_KEY = "key"\n'
        'INSTALLED_APPS = ["django_mongo_sessions"]\n'
        'MONGO_SESSIONS = {"URL": "mongodb://localhost"}\n'
    )
    given = ["--settings", "named_settings", "--pythonpath", str(tmp_path), "--skip-checks"]
    words = [*given, "users"] if place == "before" else ["users", *given]

    ended = subprocess.run(
        [sys.executable, "-m", "django", "mongosessions", *words],
        env={name: value for name, value in os.environ.items() if name[:6] != "DJANGO"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("CommandError: MONGO_SESSIONS['URL'] is not a known key")


def test_the_help_of_a_subcommand_shows_its_own_options_first(capsys):
    with pytest.raises(SystemExit):
        Command().create_parser("manage.py", "mongosessions").parse_args(["users", "--help"])

    told = capsys.readouterr().out
    assert "Show who is signed in, and how often." in told
    assert 0 < told.index("print JSON") < told.index("CommandError") < told.index("Skip system")


def test_with_verbosity_0_only_what_is_wrong_or_was_asked_for_is_printed(mongod_engine, capsys):
    with pytest.raises(CommandError):
        call("indexes", "-v", "0")
    assert capsys.readouterr() == ("", "")
    assert call("indexes", "--apply", "-v", "0") == ""
    key = save("7")

    assert call("users", "-v", "0") == "7: 1 session\n"
    assert "live: 1" in call("status", "-v", "0")
    assert call("revoke", "--key", key, "--yes", "-v", "0") == ""
    assert call("revoke", "--all", "--yes", "--json", "-v", "0") == '{"ended": 0}\n'
    assert len(call("newkey", "-v", "0")) == 45
    assert capsys.readouterr() == ("", "")


def test_with_verbosity_0_the_index_that_is_wrong_is_named(mongod_engine):
    call("indexes", "--apply", "-v", "0")
    collection().drop_index("mongo_sessions_user_id")
    output = io.StringIO()

    with pytest.raises(CommandError, match="An index is wrong"):
        call_command("mongosessions", "indexes", verbosity=0, stdout=output)

    assert output.getvalue() == "mongo_sessions_user_id: missing\n"


@pytest.fixture
def unread():
    """A pipe whose reader has closed it."""
    reader, writer = os.pipe()
    os.close(reader)
    output = os.fdopen(writer, "w")
    yield output
    with suppress(BrokenPipeError):
        output.close()


@pytest.mark.parametrize("name", ["users", "status", "newkey", "indexes"])
def test_a_reader_that_has_gone_is_no_error_to_be_shown(mongod_engine, name, unread, capsys):
    collection().drop_indexes()  # so that the last one ends in an error of its own
    with pytest.raises(SystemExit):
        Command(stdout=unread).run_from_argv(["manage.py", "mongosessions", name, "--skip-checks"])

    unread.flush()
    assert "Broken" not in "".join(capsys.readouterr())


def test_code_that_calls_the_command_learns_of_a_reader_that_has_gone(mongod_engine, unread):
    unread.reconfigure(line_buffering=True)
    with pytest.raises(BrokenPipeError):
        call_command("mongosessions", "users", stdout=unread)

    assert stat.S_ISFIFO(os.fstat(unread.fileno()).st_mode)


def test_an_interrupted_command_says_so(mongod_engine, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "count_by_user", interrupted)

    with pytest.raises(CommandError, match="Interrupted"):
        call("users")


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_a_batch_has_a_size(mongod_engine, size):
    with pytest.raises(CommandError, match=f"a whole number above 0 is needed, and not '{size}'"):
        call("import", "an.engine", f"--batch={size}")


# indexes


def test_indexes_fails_if_one_is_missing(mongod_engine):
    output = io.StringIO()
    with pytest.raises(CommandError, match="--apply") as failed:
        call_command("mongosessions", "indexes", stdout=output)

    assert failed.value.returncode == 1
    assert "mongo_sessions_expires_at: missing" in output.getvalue()
    assert "mongo_sessions_user_id: missing" in output.getvalue()


def test_indexes_applies_the_correction_and_then_succeeds(mongod_engine):
    done = call("indexes", "--apply")
    assert "created mongo_sessions_expires_at" in done
    assert "created mongo_sessions_user_id" in done

    right = "mongo_sessions_expires_at: ok\nmongo_sessions_user_id: ok\n"
    assert call("indexes") == right
    assert call("indexes", "--apply") == f"nothing to do\n{right}"


@pytest.mark.parametrize("overtaken", ["dropped", "created"])
def test_indexes_succeeds_if_another_process_does_the_same_at_the_same_time(
    mongod_engine, monkeypatch, overtaken
):
    sessions = collection()
    name = "mongo_sessions_expires_at"
    if overtaken == "dropped":
        sessions.create_index([("expires_at", 1)], expireAfterSeconds=0)
        sessions.create_index([("user_id", 1)], name=name)
    read = operations.index_information

    def overtake():
        monkeypatch.setattr(operations, "index_information", read)
        operation = read()

        def call(target):
            known = operation.call(target)
            if overtaken == "dropped":
                sessions.drop_index(name)
            else:
                sessions.create_index([("expires_at", 1)], name=name, expireAfterSeconds=0)
            return known

        return replace(operation, call=call)

    monkeypatch.setattr(operations, "index_information", overtake)

    assert ": ok" in call("indexes", "--apply")


def test_control_characters_are_escaped(mongod_engine):
    collection().create_index([("a\x1b[2J", 1)], name="b\x1b[2J")

    with pytest.raises(CommandError):
        call("indexes")
    output = call("status")

    assert "\x1b" not in output
    assert "'b\\x1b[2J'" in output


def test_indexes_names_what_leaves_no_place_for_our_index(mongod_engine):
    for direction in (1, -1):
        collection().create_index([("expires_at", direction)])

    with pytest.raises(CommandError, match="in both directions, .* indexes` lists$"):
        call("indexes", "--apply")


def test_an_outage_is_reported_without_the_password(settings, soon_told):
    uri = "mongodb://user:S3CRET@127.0.0.1:1/site"
    settings.MONGO_SESSIONS = {"URI": uri, "TIMEOUT": 0.1}

    with pytest.raises(CommandError, match="127.0.0.1:1") as failed:
        call("indexes")

    assert "S3CRET" not in str(failed.value)
    clients.reset()


def test_wrong_settings_are_reported(settings):
    settings.MONGO_SESSIONS = {"URL": "mongodb://localhost"}

    with pytest.raises(CommandError, match="Did you mean 'URI'"):
        call("status")


@pytest.mark.parametrize(
    "command",
    [
        ["indexes"],
        ["status"],
        ["show", "0" * 32],
        ["users"],
        ["revoke", "--all", "--yes"],
        ["revoke", "--user", "7"],
    ],
)
@pytest.mark.parametrize("given", [{"URI": "mongomock://"}, {"CLIENT": mongomock.MongoClient}])
def test_mongomock_is_refused(settings, command, given):
    settings.MONGO_SESSIONS = given

    with pytest.raises(CommandError, match="mongomock: each process has its own sessions"):
        call(*command)
    clients.reset()


# status


def test_status_prints_text_for_people(store):
    told = call("status")

    assert "collection: sessions" in told
    assert "live: 1" in told
    assert "signed_in: 1" in told
    assert "mongo_sessions_expires_at: missing" in told
    assert "replica_set: none" in told
    assert "about" not in told


def test_status_marks_estimates(store, monkeypatch):
    SessionStore().save()
    monkeypatch.setattr(status, "SAMPLE", 1)

    told = call("status")
    assert "live: about 2" in told
    assert "oldest: about 20" in told
    assert "largest_bytes: about" in told
    assert "exact: no" in told
    assert "--exact reads all" in told
    assert "about" not in call("status", "--exact")


def test_status_prints_json_for_machines(store):
    told = json.loads(call("status", "--json"))

    assert told["sessions"]["signed_in"] == 1
    assert told["sessions"]["oldest"].startswith("20")
    assert told["storage"]["documents"] == 1


@pytest.mark.parametrize(
    ("path", "is_ours", "shown"),
    [
        ("django_mongo_sessions.backends.mongodb", True, ".backends.mongodb\n"),
        ("tests.engine.derived", True, "tests.engine.derived, which derives from this engine\n"),
        ("django.contrib.sessions.backends.db", False, ".db, which is not this engine: the site"),
        ("no.such.engine", False, "no.such.engine, which is not this engine: the site"),
    ],
)
def test_status_says_whether_the_site_uses_this_engine(store, settings, path, is_ours, shown):
    settings.SESSION_ENGINE = path

    assert f"SESSION_ENGINE: {path}" in call("status")
    assert shown in call("status")
    told = json.loads(call("status", "--json"))
    assert told["SESSION_ENGINE"] == {"name": path, "is_this_engine": is_ours}


# show


def test_show_finds_the_document_of_a_cookie(store):
    told = call("show", store.session_key)

    assert documents.document_id(store.session_key).hex() in told
    assert store.session_key not in told
    assert "user_id: 7" in told
    assert "revision: 0" in told
    assert "payload: " in told
    assert "Sherlock" not in told


def test_show_accepts_any_payload(store):
    collection().update_one({}, {"$set": {"payload": "no binary"}})

    assert "payload: no binary" in call("show", store.session_key)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, None, "a", {"b": 1}], "indexes: 1, none, a, {'b': 1}\n"),
        ({"a": {"b": [True, False]}}, "indexes:\n  a:\n    b: yes, no\n"),
        ({}, "indexes: {}\n"),
        (2000.5, "indexes: 2000.5\n"),
        (b"four", "indexes: 4 bytes\n"),
        ("clears\x1b[2J\nthe screen", "indexes: 'clears\\x1b[2J\\nthe screen'\n"),
        (DatetimeMS(10**16), "10000000000000000"),
    ],
)
def test_show_accepts_any_fields_of_a_projects(store, value, shown):
    collection().update_one({}, {"$set": {"indexes": value}})

    assert shown in call("show", store.session_key)


@pytest.mark.parametrize(
    ("zone", "date", "shown"),
    [
        ("Pacific/Auckland", datetime.max, "9999-12-31 23:59:59 UTC"),
        ("America/Los_Angeles", datetime.min, "1-01-01 00:00:00 UTC"),
        ("America/Los_Angeles", datetime(2026, 1, 1), "2025-12-31 16:00:00 PST"),
    ],
)
def test_show_prints_dates_in_the_sites_time_zone(store, settings, zone, date, shown):
    settings.TIME_ZONE = zone
    collection().update_one({}, {"$set": {"expires_at": date, "first": date}})

    assert shown in call("show", store.session_key)


def test_show_reads_within_the_deadline(store, settings, commands):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "TIMEOUT": 2}

    call("show", store.session_key)

    [deadline] = [command["maxTimeMS"] for name, command in commands.sent if name == "find"]
    assert deadline <= 2000


def test_show_opens_the_payload_with_data(store):
    assert "'book': 'Sherlock Holmes'" in call("show", store.session_key, "--data")


def test_show_reads_the_key_from_standard_input(store, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{store.session_key}\n"))

    assert "user_id: 7" in call("show", "-")


def test_show_finds_an_expired_session(store):
    document_id = documents.document_id(store.session_key)
    past = dates.utc_now() - timedelta(days=1)
    collection().update_one({"_id": document_id}, {"$set": {"expires_at": past}})

    assert "never read, and not removed yet" in call("show", store.session_key)


def test_show_says_that_a_payload_does_not_open(store, settings):
    settings.SECRET_KEY = "another"

    with pytest.raises(CommandError, match="does not open.*SECRET_KEY, ENCRYPTION_KEYS"):
        call("show", store.session_key, "--data")


def test_show_says_what_a_key_looks_like(mongod_engine):
    with pytest.raises(CommandError, match="32 characters"):
        call("show", "no key")


def test_show_says_that_there_is_no_such_session(mongod_engine):
    with pytest.raises(CommandError, match="no such session"):
        call("show", "0" * 32)


# users and revoke


def save(user_id=None, **data):
    """Store a session, signed in or not, and return its key."""
    session = SessionStore()
    session.update(data if user_id is None else {**data, SESSION_KEY: user_id})
    session["a"] = 1
    session.save()
    return session.session_key


def is_there(key):
    return SessionStore().exists(key)


def expire(key):
    document_id = documents.document_id(key)
    past = dates.utc_now() - timedelta(seconds=1)
    collection().update_one({"_id": document_id}, {"$set": {"expires_at": past}})


class Terminal(io.StringIO):
    """Standard input on which somebody interrupts the command."""

    def readline(self, *args):
        raise KeyboardInterrupt


@pytest.fixture
def told():
    """What the command has written to the standard output, and to that for errors."""
    return io.StringIO(), io.StringIO()


@pytest.fixture
def ask(monkeypatch, told):
    """`ask(answer, *args)` runs the command on a terminal where somebody answers."""

    def ask(answer, *args):
        stdin = answer if isinstance(answer, io.StringIO) else io.StringIO(answer)
        monkeypatch.setattr("sys.stdin", stdin)
        output, errors = told
        call_command("mongosessions", *args, stdout=output, stderr=errors, no_color=True)
        return output.getvalue()

    return ask


@pytest.fixture
def revoked():
    """What was announced of sessions that were ended."""
    sent = []

    def receive(session, reason, request, **kwargs):
        sent.append((session.user_id, reason, request))

    session_revoked.connect(receive)
    yield sent
    session_revoked.disconnect(receive)


def test_users_says_who_is_signed_in_and_how_often(mongod_engine):
    for user_id in ("7", "alice@example.com", "7", None):
        save(user_id)

    assert call("users") == "7: 2 sessions\nalice@example.com: 1 session\n"
    assert json.loads(call("users", "--json")) == {"7": 2, "alice@example.com": 1}


def test_users_says_that_nobody_is_signed_in(mongod_engine):
    save()

    assert call("users") == "Nobody is signed in.\n"
    assert json.loads(call("users", "--json")) == {}


def test_users_shows_an_id_only(mongod_engine):
    save("a\x1b[2J")
    save("\u202egnp")

    told = call("users")

    assert "'a\\x1b[2J': 1 session" in told
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert json.loads(call("users", "--json")) == {"a\x1b[2J": 1, "\u202egnp": 1}
    assert "\x1b" not in call("users", "--json")


def test_users_counts_no_marker_and_what_is_no_text(mongod_engine):
    session = SessionStore(save("7"))
    session.cycle_key()
    collection().insert_many([{"_id": 1, "user_id": 8}, {"_id": 2, "user_id": ["8"]}])

    assert call("users") == "7: 1 session\n"


def test_revoke_ends_the_sessions_of_a_user(mongod_engine, revoked):
    ended, stays = [save("7"), save("7", hijack_history=["1"])], [save("70"), save()]

    assert call("revoke", "--user", "7", "--yes") == "2 sessions ended.\n"

    assert not any(map(is_there, ended))
    assert all(map(is_there, stays))
    assert revoked == [("7", "admin", None)] * 2


def test_revoke_ends_the_session_of_a_cookie(mongod_engine, revoked, monkeypatch):
    first, second, stays = save("7"), save(), save("7")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{first}\n"))

    assert call("revoke", "--key", "-", "--yes") == "1 session ended.\n"
    assert call("revoke", "--key", second, "--yes") == "1 session ended.\n"

    assert [is_there(key) for key in (first, second, stays)] == [False, False, True]
    assert revoked == [("7", "admin", None)]


@pytest.mark.parametrize("user_id", [None, "7"])
def test_revoke_follows_a_session_to_its_new_key(mongod_engine, revoked, user_id):
    key = save(user_id)
    session = SessionStore(key)
    session.cycle_key()

    assert call("revoke", "--key", key, "--yes") == "1 session ended.\n"

    assert not is_there(session.session_key)
    assert revoked == ([] if user_id is None else [(user_id, "admin", None)])


def test_revoke_follows_a_session_that_moves_at_the_same_time(mongod_engine, monkeypatch):
    key = save("7")
    session = SessionStore(key)
    read = operations.find_user_id

    def overtaken(document_id):
        operation = read(document_id)

        def call(target):
            reply = operation.call(target)
            session.cycle_key()
            return reply

        return replace(operation, call=call)

    monkeypatch.setattr(operations, "find_user_id", overtaken)

    assert call("revoke", "--key", key, "--yes") == "1 session ended.\n"

    assert not is_there(session.session_key)


def test_revoke_ends_every_session(mongod_engine, revoked):
    keys = [save("7"), save("8"), save()]

    assert call("revoke", "--all", "--yes") == "3 sessions ended.\n"

    assert not any(map(is_there, keys))
    assert revoked == []


@pytest.mark.parametrize("count", [3, 4, 5, 9])
def test_revoke_ends_thousands_of_sessions_in_batches(mongod_engine, monkeypatch, commands, count):
    monkeypatch.setattr(deleting, "EXPIRED_BATCH", 4)
    keys = [save() for _ in range(count)]
    commands.names()

    assert call("revoke", "--all", "--yes", "--json") == f'{{"ended": {count}}}\n'

    assert not any(map(is_there, keys))
    removed = [reply["n"] for name, reply in commands.replies if name == "delete"]
    assert max(removed) <= 4


def test_revoke_counts_no_marker_and_ends_what_has_moved(mongod_engine, monkeypatch):
    monkeypatch.setattr(deleting, "EXPIRED_BATCH", 2)
    sessions = [SessionStore(save(user_id)) for user_id in ("7", "8", None, None, None)]
    for session in sessions:
        session.cycle_key()
    collection().insert_one({"_id": "not ours"})

    assert call("revoke", "--all", "--yes") == "5 sessions ended.\n"

    assert not any(is_there(session.session_key) for session in sessions)
    assert collection().count_documents({"revision": -1}) == 5
    assert collection().count_documents({"_id": "not ours"}) == 1


def test_revoke_ends_a_session_that_moves_behind_it(mongod_engine, monkeypatch):
    session = SessionStore(save("7"))
    delete, moves = bulk.delete_any, iter([True])

    def overtaken(up_to):
        operation = delete(up_to)

        def call(target):
            reply = operation.call(target)
            if next(moves, False):
                save("7")
            return reply

        return replace(operation, call=call)

    monkeypatch.setattr(bulk, "delete_any", overtaken)

    assert call("revoke", "--all", "--yes") == "2 sessions ended.\n"

    assert not is_there(session.session_key)
    assert collection().count_documents({}) == 0


def test_revoke_comes_to_an_end_while_others_sign_in(mongod_engine, monkeypatch):
    delete = bulk.delete_any

    def overtaken(up_to):
        operation = delete(up_to)

        def call(target):
            save()
            return operation.call(target)

        return replace(operation, call=call)

    monkeypatch.setattr(bulk, "delete_any", overtaken)

    assert call("revoke", "--all", "--yes") == "3 sessions ended.\n"


# What is asked before


WAYS = [["--user", "7"], ["--all"], ["--key", None]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", ["yes\n", " yes \n", "yes"])
def test_revoke_asks_first(mongod_engine, ask, told, way, answer):
    key = save("7")

    assert ask(answer, "revoke", *(part or key for part in way)) == "1 session ended.\n"

    assert not is_there(key)
    assert told[1].getvalue().endswith(". Type 'yes' to continue: ")


@pytest.mark.parametrize("way", WAYS)
def test_revoke_ends_nothing_unless_somebody_agrees(mongod_engine, ask, told, way):
    key = save("7")

    for answer in ("no\n", "y\n", "YES\n", "\n", "", "no\nyes\n", Terminal()):
        with pytest.raises(CommandError, match=r"^Nothing was ended\.$") as refused:
            ask(answer, "revoke", *(part or key for part in way))

        assert refused.value.returncode == 1
        assert is_there(key), answer
        assert told[0].getvalue() == ""


def test_revoke_says_what_it_would_end(mongod_engine, ask, told):
    keys = [save("7\x1b[2J"), save("7\x1b[2J"), save("8")]
    expire(keys[1])

    ask("yes\n", "revoke", "--user", "7\x1b[2J")
    ask("yes\n", "revoke", "--key", keys[2])
    ask("yes\n", "revoke", "--all")

    shown = told[1].getvalue()
    assert "This ends 1 session of the user '7\\x1b[2J'. Type" in shown
    assert "This ends the session of this cookie. Type" in shown
    assert "This ends all sessions of everybody, about 1. Type" in shown
    assert not any(key in shown for key in keys)


def test_what_is_asked_is_no_part_of_the_json(mongod_engine, ask):
    save("7")

    assert json.loads(ask("yes\n", "revoke", "--user", "7", "--json")) == {"ended": 1}


def test_the_key_and_then_the_answer_are_read_from_standard_input(mongod_engine, ask):
    key = save("7")
    with pytest.raises(CommandError, match="Nothing was ended"):
        ask(f"{key}\n", "revoke", "--key", "-")

    assert ask(f"{key}\nyes\n", "revoke", "--key", "-") == "1 session ended.\n"


@pytest.mark.parametrize("user_id", ["9", "", "no such user"])
def test_for_a_user_without_sessions_nothing_is_asked(mongod_engine, ask, user_id):
    key = save("7")

    assert ask(Terminal(), "revoke", "--user", user_id) == "0 sessions ended.\n"

    assert is_there(key)


def test_a_cookie_of_no_session_is_no_error(mongod_engine):
    assert json.loads(call("revoke", "--key", "0" * 32, "--yes", "--json")) == {"ended": 0}


def test_a_marker_of_a_deletion_is_no_session(mongod_engine):
    key = "0" * 32
    marker = documents.marker(documents.document_id(key), documents.new_write_id(), dates.utc_now())
    collection().insert_one(marker)

    assert call("revoke", "--key", key, "--yes") == "0 sessions ended.\n"
    assert collection().find_one({}) is not None


def test_revoke_says_what_a_key_looks_like(mongod_engine):
    with pytest.raises(CommandError, match="32 characters"):
        call("revoke", "--key", "no key", "--yes")


@pytest.mark.parametrize("args", [[], ["--all", "--user", "7"], ["--user", "7", "--key", "-"]])
def test_revoke_needs_to_know_which_and_only_once(mongod_engine, args):
    key = save("7")

    with pytest.raises(CommandError):
        call("revoke", *args, "--yes")

    assert is_there(key)


def test_an_interrupted_revoke_says_so(mongod_engine, monkeypatch):
    def interrupted(up_to):
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "delete_any", interrupted)

    with pytest.raises(CommandError, match=r"^Interrupted\. Some sessions may have ended"):
        call("revoke", "--all", "--yes")


def test_status_asks_within_the_clients_own_deadline(mongod_engine, settings, commands):
    options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "timeoutMS": 900}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}

    call("status")

    [deadline] = [command["maxTimeMS"] for name, command in commands.sent if name == "ping"]
    assert deadline <= 900
    clients.reset()


@pytest.mark.parametrize(
    "command",
    [["status"], ["users"], ["revoke", "--all", "--yes"], ["revoke", "--user", "7"]],
)
def test_an_outage_is_reported_as_one(settings, soon_told, command):
    settings.MONGO_SESSIONS = {"URI": "mongodb://user:S3CRET@127.0.0.1:1/site", "TIMEOUT": 0.1}

    with pytest.raises(CommandError, match="MongoDB is down at 127.0.0.1:1") as failed:
        call(*command)

    assert "S3CRET" not in str(failed.value)
    assert str(failed.value).endswith(errors.ADVICE)
    clients.reset()
