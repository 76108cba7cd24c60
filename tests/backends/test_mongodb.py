"""The engine as Django sees it."""

import asyncio
import inspect
import logging
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.utils.functional import SimpleLazyObject

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.engine import deleting
from django_mongo_sessions.storage import dates, documents
from tests.conftest import DATABASE, IS_LONG, collection, count_sessions
from tests.engine import derived

PAIRS = [
    (name, twin)
    for name in dir(SessionStore)
    for twin in ("a" + name, "_a" + name[1:])
    if name.startswith("_") == twin.startswith("_") and hasattr(SessionStore, twin)
    if callable(getattr(SessionStore, name)) and not name.startswith("__")
]
VERBS = ["load", "save", "create", "delete", "exists", "cycle_key", "flush", "clear_expired"]


def defining_class(name):
    return next(cls for cls in SessionStore.__mro__ if name in vars(cls))


def parameters(name):
    signature = inspect.signature(getattr(SessionStore, name))
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def test_every_verb_has_a_sync_and_an_async_form():
    assert {(verb, f"a{verb}") for verb in VERBS} <= set(PAIRS)
    assert ("_get_session", "_aget_session") in PAIRS


@pytest.mark.parametrize(("name", "twin"), PAIRS)
def test_both_forms_have_the_same_signature_and_class(name, twin):
    assert parameters(name) == parameters(twin)
    assert defining_class(name) is defining_class(twin)


@pytest.mark.parametrize("name", [name for name in dir(SessionStore) if name.startswith("a")])
def test_no_async_method_of_djangos_own_uses_a_thread(name):
    method = inspect.unwrap(getattr(SessionStore, name))

    if code := getattr(method, "__code__", None):
        assert "sync_to_async" not in code.co_names


# Of a request


def test_the_session_of_a_request_is_the_very_object(rf):
    request = rf.get("/")
    for session in (derived.SessionStore(), SimpleLazyObject(derived.SessionStore)):
        request.session = session

        assert SessionStore.of(request) is session
        assert derived.SessionStore.of(request) is session


@pytest.mark.parametrize("session", [SessionStore(), {"password": "S3CRET"}])
def test_a_session_of_another_class_is_refused(rf, session):
    request = rf.get("/")
    request.session = session

    with pytest.raises(TypeError, match=r"not a tests\.engine\.derived\.SessionStore") as refused:
        derived.SessionStore.of(request)

    assert "S3CRET" not in str(refused.value)


@pytest.mark.parametrize("name", ["buy", "buy-async", "buy-class"])
def test_a_typed_view_changes_the_session(mongod_engine, settings, name):
    settings.ROOT_URLCONF = "docs.recipes.typed.cart"
    client = Client()

    answers = [client.post(f"/{name}/").content for _ in range(2)]

    assert answers == [b"Books: 1", b"Books: 2"]


# In an event loop


@pytest.fixture
def hints(caplog):
    caplog.set_level(logging.DEBUG, "django_mongo_sessions")
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "DEBUG"]


@pytest.mark.parametrize("access", ["keys", "get_expiry_age", "save"])
def test_a_blocking_access_in_a_running_loop_works_and_is_logged(mongod_engine, hints, access):
    session = SessionStore()
    session["a"] = 1
    session.save()
    assert hints() == []

    async def view():
        again = SessionStore(session.session_key)
        getattr(again, access)()
        return again["a"]

    assert asyncio.run(view()) == 1
    [hint] = hints()
    assert __file__ in hint
    assert "await request.session.aget()" in hint


def test_an_awaited_access_is_not_logged(mongod_engine, hints):
    asyncio.run(SessionStore("0123456789abcdefghijklmnopqrstuv").aload())

    assert hints() == []


# Behind the middleware


def poke(request):
    request.session["poked"] = True
    return HttpResponse("poked")


def peek(request):
    return HttpResponse(str(request.session.get("poked")))


def untouched(request):
    return HttpResponse("untouched")


urlpatterns = [path("poke", poke), path("peek", peek), path("untouched", untouched)]

COOKIES = [
    "",
    "x" * 1_000_000,
    "12345678\0",
    "\U0001f36a" * 32,
    "\ud800" * 32,
    '{"$ne": null}',
    "0123456789abcdefghijklmnopqrstu",
    "0123456789abcdef,0123456789abcdef",
    "0123456789abcdefghijklmnopqrstuv\n",
]


def request_with(cookie, view):
    from django.conf import settings
    from django.contrib.sessions.middleware import SessionMiddleware
    from django.test import RequestFactory

    request = RequestFactory().get("/")
    request.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
    return SessionMiddleware(view)(request)


@pytest.mark.parametrize("cookie", COOKIES, ids=lambda cookie: ascii(cookie)[:20])
def test_a_cookie_of_any_bytes_is_an_anonymous_session_and_sends_no_command(
    mongod_engine, commands, cookie
):
    response = request_with(cookie, peek)

    assert response.content == b"None"
    assert commands.sent == []


def test_a_key_that_could_be_ours_is_looked_up_once_and_creates_no_document(
    mongod_engine, commands
):
    response = request_with("0123456789abcdefghijklmnopqrstuv", peek)

    assert response.content == b"None"
    assert commands.names() == ["find"]
    assert count_sessions() == 0


@pytest.mark.urls(__name__)
def test_the_cookie_stays_and_other_pages_work_while_mongodb_is_down(
    settings, mongod_engine, soon_told
):
    client = Client(raise_request_exception=False)
    assert client.get("/poke").cookies
    working = settings.MONGO_SESSIONS
    settings.MONGO_SESSIONS = {"URI": "mongodb://127.0.0.1:1", "TIMEOUT": 0.1}

    assert client.get("/untouched").status_code == 200
    away = client.get("/peek")
    assert away.status_code == 503
    assert not away.cookies
    assert Client().get("/poke").status_code == 503

    settings.MONGO_SESSIONS = working
    assert client.get("/peek").content == b"True"


@pytest.mark.urls(__name__)
def test_a_broken_document_leaves_the_cookie_alone(mongod_engine):
    client = Client()
    client.get("/poke")
    collection().update_one({}, {"$set": {"payload": b"forged"}})

    read = client.get("/peek")

    assert read.content == b"None"
    assert not read.cookies


# The command


BACKLOG = 200_000 if IS_LONG else 20_000


def test_clearsessions_removes_a_large_backlog_in_batches(mongod_engine, commands):
    collection().create_index([("expires_at", 1)])  # no TTL index: its monitor would interfere
    live = [SessionStore() for _ in range(5)]
    for store in live:
        store.save()
    past = dates.utc_now() - timedelta(days=1)
    # Half of them expired in one and the same millisecond.
    collection().insert_many(
        (
            {
                "_id": documents.document_id(f"{number:032}"),
                "payload": b"x" * 300,
                "expires_at": past - timedelta(milliseconds=max(0, number - BACKLOG // 2)),
            }
            for number in range(BACKLOG)
        ),
        ordered=False,
    )
    commands.replies.clear()

    call_command("clearsessions")

    assert count_sessions() == len(live)
    assert all(store.exists(store.session_key) for store in live)
    removed = [reply["n"] for name, reply in commands.replies if name == "delete"]
    assert sum(removed) == BACKLOG
    # Some tens of milliseconds each, depending on the machine.
    assert max(removed) == deleting.EXPIRED_BATCH


# What a copy of the database shows


def test_a_dump_of_the_collection_holds_no_session_key(mongod_engine):
    keys = []
    for number in range(50):
        store = SessionStore()
        store["_auth_user_id"] = str(number)
        store.save()
        keys.append(store.session_key)

    dump = b"".join(document.raw for document in raw_collection().find({}))

    assert len(dump) > 50 * 100
    assert not any(key.encode() in dump for key in keys)
    # Nor is anything in it a usable cookie.
    for document in collection().find({}):
        assert SessionStore(document["_id"].hex()).load() == {}


def raw_collection():
    from bson.raw_bson import RawBSONDocument

    sessions = clients.collection()[0]
    return sessions.with_options(
        sessions.codec_options.with_options(document_class=RawBSONDocument)
    )


# The two lines of settings


TWO_LINES = """
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x",
    SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
    MONGO_SESSIONS={{"URI": {uri!r}, "DATABASE": {database!r}}},
)
django.setup()
from importlib import import_module
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
store = SessionStore()
store["book"] = "Sherlock Holmes"
store.save()
print(SessionStore(store.session_key)["book"])
"""


def test_two_lines_of_settings_are_enough(mongod_engine):
    program = TWO_LINES.format(uri=mongod_engine, database=DATABASE)

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )

    assert (ended.stdout, ended.stderr) == ("Sherlock Holmes\n", "")
