"""`manage.py mongosessions`, subcommand by subcommand."""

import io
import json
from dataclasses import replace
from datetime import datetime, timedelta

import mongomock
import pytest
from bson.datetime_ms import DatetimeMS
from django.contrib.auth import SESSION_KEY
from django.core.management import CommandError, call_command

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.mongo import operations, status
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


# indexes


def test_indexes_fails_if_one_is_missing(mongod_engine):
    output = io.StringIO()
    with pytest.raises(CommandError, match="--apply") as failed:
        call_command("mongosessions", "indexes", stdout=output)

    assert failed.value.returncode == 1
    assert "mongo_sessions_expires_at: missing" in output.getvalue()


def test_indexes_applies_the_correction_and_then_succeeds(mongod_engine):
    assert "created mongo_sessions_expires_at" in call("indexes", "--apply")

    assert call("indexes") == "mongo_sessions_expires_at: ok\n"
    assert call("indexes", "--apply") == "nothing to do\nmongo_sessions_expires_at: ok\n"


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


@pytest.mark.parametrize("command", [["indexes"], ["status"], ["show", "0" * 32]])
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

    with pytest.raises(CommandError, match="does not open"):
        call("show", store.session_key, "--data")


def test_show_says_what_a_key_looks_like(mongod_engine):
    with pytest.raises(CommandError, match="32 characters"):
        call("show", "no key")


def test_show_says_that_there_is_no_such_session(mongod_engine):
    with pytest.raises(CommandError, match="no such session"):
        call("show", "0" * 32)
