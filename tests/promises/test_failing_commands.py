"""A server lets commands fail or wait: which of it is an outage, and for whom."""

import asyncio
import traceback
from contextlib import contextmanager

import pymongo
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, NetworkTimeout, PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients, errors
from django_mongo_sessions.connection.breaker import OPEN
from django_mongo_sessions.engine import loading
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run_on
from testproject import mongod
from tests.conftest import DATABASE, IS_LONG, encrypt_with, end
from tests.promises import test_encryption

# HostUnreachable, HostNotFound, NetworkTimeout, FailedToSatisfyReadPreference, ExceededTimeLimit
# and SocketException.
NAMED = [6, 7, 89, 133, 262, 9001]
# PyMongo repeats what has this label, whatever its code is, until the time is over.
LABELS = ["RetryableWriteError"]
FAILURES = [(code, []) for code in NAMED]
FAILURES += [(code, LABELS) for code in (NAMED if IS_LONG else NAMED[:1])]
LONGER = 1600  # milliseconds; a request gives the index a second


def saves_later(request):
    request.session["b"] = 2
    return HttpResponse()


async def asaves(request):
    await request.session.aload()
    await request.session.acycle_key()
    return HttpResponse()


def saves(request):
    request.session["b"] = 2
    request.session.save()
    return HttpResponse()


urlpatterns = [path(view.__name__, view) for view in (saves_later, saves, asaves)]
handler500 = "django.views.defaults.server_error"


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory):
    """The URI of a replica set of one member, whose commands a test may let fail."""
    data = tmp_path_factory.mktemp("failing") / "data"
    options = ("--replSet", "rs", "--setParameter", "enableTestCommands=1")
    with mongod.running(data, *options) as uri:
        with MongoClient(uri, directConnection=True) as client:
            members = [{"_id": 0, "host": uri.removeprefix("mongodb://")}]
            client.admin.command("replSetInitiate", {"_id": "rs", "members": members})
        with MongoClient(f"{uri}/?replicaSet=rs") as client:
            client.admin.command("ping")  # waits for a primary
        yield f"{uri}/?replicaSet=rs"


@pytest.fixture
def site(settings, replica_set):
    """The engine on that replica set, and a site."""
    settings.ROOT_URLCONF = __name__
    settings.TEMPLATES = []
    settings.MIDDLEWARE = ["django_mongo_sessions.middleware.SessionMiddleware"]
    settings.SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
    settings.MONGO_SESSIONS = {
        "URI": replica_set,
        "DATABASE": DATABASE,
        "ASYNC": "native",
        "TIMEOUT": 0.6,  # PyMongo repeats what is labelled until then
        "CLIENT_OPTIONS": {"serverMonitoringMode": "poll"},
    }
    indexes._ensured.add((replica_set, DATABASE, "sessions"))
    clients.collection().collection.drop()
    yield settings
    clients.reset()


@pytest.fixture
def failing(replica_set):
    """`with failing(commands, **how)` lets these commands fail, or wait."""
    with MongoClient(replica_set) as client:

        @contextmanager
        def failing(*commands, **how):
            point = {"configureFailPoint": "failCommand"}
            client.admin.command(
                {**point, "mode": "alwaysOn", "data": {"failCommands": commands, **how}}
            )
            try:
                yield
            finally:
                client.admin.command({**point, "mode": "off"})

        yield failing


@pytest.fixture(params=["blocking", "asynchronous"])
def get(request, site):
    """Request a page as a browser with a session."""
    loop = asyncio.new_event_loop()

    def get(url, key):
        kind = Client if request.param == "blocking" else AsyncClient
        client = kind(raise_request_exception=False)
        client.cookies["sessionid"] = key
        response = client.get(url)
        return response if kind is Client else loop.run_until_complete(response)

    yield get
    end(loop)


@pytest.fixture
def key(site):
    """The key of a stored session."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    return session.session_key


# Codes of errors


@pytest.mark.parametrize("url", ["/saves_later", "/asaves"])
@pytest.mark.parametrize(("code", "labels"), FAILURES)
def test_a_write_that_the_server_cannot_do_now_is_a_503(get, key, failing, code, labels, url):
    with failing("insert", "update", errorCode=code, errorLabels=labels):
        response = get(url, key)

    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    past_the_breaker = clients.collection()._replace(gate=OPEN)
    assert run_on(past_the_breaker, loading.find(SessionStore(key), key)).data == {"a": 1}


@pytest.mark.parametrize("code", sorted(errors._OUTAGES))
def test_so_is_one_with_any_code_of_those_categories(site, key, failing, code):
    store = SessionStore(key)
    store["b"] = 2

    with (
        failing("update", errorCode=code, errorLabels=[]),
        pytest.raises(PyMongoError) as raised,
    ):
        store.save()

    assert errors.is_outage(raised.value)


@pytest.mark.parametrize("code", [13, 26, 121, 10003])
def test_one_that_the_server_refuses_is_not(get, key, failing, code):
    with failing("update", errorCode=code):
        assert get("/saves", key).status_code == 500


@pytest.mark.parametrize("how", [{"closeConnection": True}, {"blockConnection": True}])
def test_its_traceback_shows_nothing_twice(site, key, failing, how):
    site.MONGO_SESSIONS = {**site.MONGO_SESSIONS, "TIMEOUT": 0.4}
    SessionStore(key).load()

    with failing("find", blockTimeMS=600, **how), pytest.raises(ConnectionFailure) as raised:
        SessionStore(key).load()

    assert "".join(traceback.format_exception(raised.value)).count("Traceback (most ") == 1


# Deadlines


@pytest.mark.parametrize("options", ["", "&timeoutMS=0", "&timeoutMS=400"])
def test_a_deadline_of_the_callers_does_not_end_the_calls_of_others(
    site, key, failing, replica_set, options
):
    site.MONGO_SESSIONS = {**site.MONGO_SESSIONS, "URI": replica_set + options, "TIMEOUT": 0.4}
    loop = asyncio.new_event_loop()
    forms = [SessionStore.load, lambda store: loop.run_until_complete(store.aload())]
    for form in forms:
        assert form(SessionStore(key))  # it is connected

        with (
            failing("find", blockConnection=True, blockTimeMS=600),
            pymongo.timeout(0.3),
            pytest.raises(NetworkTimeout),
        ):
            form(SessionStore(key))

    held = [clients.collection(), *(held for held, _ in clients._clients.by_loop.values())]
    assert len(held) == 2
    assert not any(collection.gate.outage for collection in held)
    end(loop)


def test_a_deadline_of_the_engines_own_does(site, key, failing, replica_set):
    site.MONGO_SESSIONS = {**site.MONGO_SESSIONS, "TIMEOUT": 0.4}
    SessionStore(key).load()

    with failing("find", blockConnection=True, blockTimeMS=600), pytest.raises(PyMongoError):
        SessionStore(key).load()

    assert clients.collection().gate.outage


# The TTL index


@pytest.fixture
def no_index(site, monkeypatch):
    """As in a new process, on a collection without an index."""
    monkeypatch.setattr(indexes, "_ensured", set())
    clients.collection().collection.drop_indexes()


@pytest.mark.parametrize("command", ["listIndexes", "count", "createIndexes"])
def test_an_index_that_cannot_be_built_in_time_is_a_warning_and_no_outage(
    no_index, failing, logged, command
):
    store = SessionStore()
    store["a"] = 1
    with failing(command, blockConnection=True, blockTimeMS=LONGER):
        store.save()

    assert SessionStore(store.session_key).load() == {"a": 1}
    assert clients.collection().gate.outage is None
    [record] = logged()
    assert "indexes --apply" in record.getMessage()


@pytest.mark.parametrize("command", ["listIndexes", "count", "createIndexes"])
def test_nor_is_one_of_a_request(no_index, get, failing, command):
    with failing(command, blockConnection=True, blockTimeMS=LONGER):
        assert get("/saves_later", "0123456789abcdefghijklmnopqrstuv").status_code == 200


def test_a_majority_of_the_members_has_to_build_it(no_index, commands):
    SessionStore().save()

    assert dict(commands.sent)["createIndexes"]["commitQuorum"] == "majority"
    assert dict(commands.replies)["createIndexes"]["ok"] == 1


# What is replicated


def test_no_value_of_an_encrypted_session_is_in_the_oplog(site, replica_set, monkeypatch):
    encrypt_with(monkeypatch, test_encryption.A)
    keys = test_encryption.use_a_session()
    raw = CodecOptions(document_class=RawBSONDocument)
    with MongoClient(replica_set) as client:
        oplog = client.local.get_collection("oplog.rs", codec_options=raw)
        dump = b"".join(entry.raw for entry in oplog.find({"ns": f"{DATABASE}.sessions"}))

    assert b"key_id" in dump
    test_encryption.assert_hides(dump, keys)
