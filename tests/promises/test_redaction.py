"""No key of a session and no value appears in logs, nor in the frames of a traceback."""

import asyncio
import base64
import json
import logging
import os
import sys
from copy import deepcopy

import pytest
from django.http import HttpResponse
from django.views.debug import ExceptionReporter
from pymongo.errors import WriteError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.engine import mapping
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.storage import codec
from tests.conftest import SESSIONS, collection, end

# Not in the frames of the tests, which are part of a traceback.
KEY = "0123456789abcdefghijklmnopqrstuv"
VALUE = "a value that nobody may see"
USER = "4711-the-user"
DATA = {"_auth_user_id": USER, "basket": [VALUE]}
IN_BASE64 = {base64.b64encode(VALUE.encode()[n:]).decode()[4:-4] for n in range(3)}


def assert_shows_nothing(text):
    for secret in (KEY, VALUE, USER, *IN_BASE64):
        assert secret not in text, secret


def begin():
    store = SessionStore(KEY)
    store._session_cache = deepcopy(DATA)
    return store


def use(store, call):
    """Call each verb once, and cause a conflict."""
    call("save", must_create=True)
    call("load")
    store["more"] = VALUE
    call("save")
    other = SessionStore(store.session_key)
    other["theirs"] = VALUE
    other.save()
    store["ours"] = VALUE
    call("save")
    call("cycle_key")
    call("exists", store.session_key)
    call("mutate", lambda data: data.update(more=[VALUE]))
    collection().update_one(SESSIONS, {"$set": {"payload": b"\x01forged"}})
    SessionStore(store.session_key).load()
    call("flush")


@pytest.mark.parametrize("form", ["blocking", "asynchronous"])
def test_nothing_appears_in_the_logs_at_any_level(mongod_engine, settings, caplog, form):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}
    store = begin()
    caplog.set_level(1)
    for name in ("pymongo", "django_mongo_sessions", "django"):
        caplog.set_level(1, name)

    if form == "blocking":
        use(store, lambda verb, *args, **kwargs: getattr(store, verb)(*args, **kwargs))
    else:
        loop = asyncio.new_event_loop()
        use(
            store,
            lambda verb, *args, **kwargs: loop.run_until_complete(
                getattr(store, f"a{verb}")(*args, **kwargs)
            ),
        )
        end(loop)

    text = "\n".join(record.getMessage() for record in caplog.records)
    assert '"Command started"' in text
    assert "(not shown)" in text
    assert "rejected" in text
    assert_shows_nothing(text)


@pytest.mark.only("mongod")
def test_the_text_of_a_command_shows_no_payload(do, commands):
    """Tracing libraries send the text of commands, some of them as JSON."""
    store = begin()

    use(store, lambda verb, *args, **kwargs: do(store, verb, *args, **kwargs))

    sent = [command for name, command in commands.sent if name in ("insert", "update")]
    text = "\n".join(json.dumps(command, default=str) + str(command) for command in sent)
    assert "<payload of " in text
    for secret in (KEY, VALUE, *IN_BASE64):
        assert secret not in text, secret


def test_a_document_that_a_validator_refuses_is_not_shown(mongod_engine, settings, caplog):
    store = begin()
    store.save(must_create=True)
    schema = {"properties": {"user_id": {"bsonType": "int"}}}
    database = collection().database
    database.command("collMod", "sessions", validator={"$jsonSchema": schema})
    caplog.set_level(logging.DEBUG, "pymongo")
    store["more"] = VALUE
    with pytest.raises(WriteError):
        store.save()

    database.command("collMod", "sessions", validator={})
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "(not shown)" in text
    assert_shows_nothing(text)


class Unserializable:
    """An object that JSON cannot hold."""


def unserializable(store):
    store["more"] = Unserializable()


def too_large(store):
    store["more"] = VALUE + base64.b85encode(os.urandom(160_000)).decode()


def prepare(settings, monkeypatch, fault):
    monkeypatch.setattr(codec, "MAX_BODY", 150_000)
    monkeypatch.setattr(mapping, "LARGE_BODY", 100_000)
    store = begin()
    if fault == "away":
        settings.MONGO_SESSIONS = {
            "URI": "mongodb://127.0.0.1:1",
            "TIMEOUT": 0.1,
            "CLIENT_OPTIONS": {"serverSelectionTimeoutMS": 100},
            "ASYNC": "threads",
        }
        return store
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}
    store.save(must_create=True)
    if fault == "gone":
        collection().delete_many({})
        store["more"] = VALUE
    elif fault == "conflict":
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ON_CONFLICT": "raise"}
        other = SessionStore(KEY)
        other["more"] = "theirs"
        other.save()
        store["more"] = VALUE
    elif fault == "taken":
        return begin()
    elif fault == "refused":
        collection().create_index([("revision", 1)], unique=True)
        store = begin()
        store._session_key = None
    else:
        {"unserializable": unserializable, "too large": too_large}[fault](store)
    return store


FAULTS = [
    *(("away", verb, ()) for verb in ("load", "save", "cycle_key", "flush", "exists")),
    *(("gone", "save", ()), ("gone", "cycle_key", ()), ("conflict", "save", ())),
    *(("taken", "save", (True,)), ("too large", "save", ())),
    *(("unserializable", "save", ()), ("unserializable", "create", ())),
    *(("refused", "save", ()), ("refused", "create", ())),
]


@pytest.mark.parametrize("form", ["blocking", "asynchronous"])
@pytest.mark.parametrize(("fault", "verb", "args"), FAULTS)
def test_nothing_appears_in_a_traceback_with_its_variables(
    mongod_engine, settings, monkeypatch, soon_told, form, fault, verb, args
):
    settings.DEBUG = True  # with it, Django shows the variables of all frames
    store = prepare(settings, monkeypatch, fault)
    if verb == "exists":
        args = (store.session_key,)
    try:
        if form == "blocking":
            getattr(store, verb)(*args)
        else:
            asyncio.run(getattr(store, f"a{verb}")(*args))
    except Exception:
        args = ()
        report = ExceptionReporter(None, *sys.exc_info())
        shown = report.get_traceback_html() + report.get_traceback_text()
    clients.reset()

    assert "mongodb.py" in shown
    assert_shows_nothing(shown)


def test_nothing_appears_when_changes_are_tracked(mongod_engine, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "TRACK_NESTED": True}
    settings.DEBUG = True
    store = begin()
    store.save(must_create=True)
    store["basket"].append(Unserializable())
    store._modified = False
    with pytest.raises(TypeError) as raised:
        assert store.modified

    shown = ExceptionReporter(None, raised.type, raised.value, raised.tb).get_traceback_html()
    assert_shows_nothing(shown)


def test_nothing_appears_if_a_wrong_setting_keeps_a_session_from_being_made(rf, settings):
    settings.SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
    settings.SESSION_SERIALIZER = "no.such.serializer"
    rf.cookies[settings.SESSION_COOKIE_NAME] = KEY
    with pytest.raises(ImportError) as raised:
        SessionMiddleware(HttpResponse).process_request(rf.get("/"))

    shown = ExceptionReporter(None, raised.type, raised.value, raised.tb).get_traceback_html()
    assert_shows_nothing(shown)


def test_the_frames_of_a_project_keep_their_variables(mongod_engine):
    store = begin()
    store.save(must_create=True)

    def fail(data):
        word = "a word of the project's"
        raise ValueError(word)

    with pytest.raises(ValueError, match="a word") as raised:
        store.mutate(fail)

    last = raised.traceback[-1]
    assert last.locals["word"] == "a word of the project's"
