"""What all tests use: a real mongod and mongomock, sync and async. No mocks."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from django.contrib.sessions.backends import file
from django.db import connections
from django.test import AsyncClient, Client, override_settings
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.conf import KEYS as SETTINGS
from django_mongo_sessions.connection import clients, testruns
from django_mongo_sessions.mongo import indexes
from testproject import mongod

pytest_plugins = ["tests.tracing"]

# Every test that asks for `do` runs in each of these ways.
WAYS = [
    ("mongod", "sync"),
    ("mongod", "native"),
    ("mongod", "threads"),
    ("mongomock", "sync"),
    ("mongomock", "threads"),
]
# `make test` and tox use the short profile. .ci/run uses the long one too: more examples, and every
# combination. Both try the same examples each time, so that a change is judged by what it changes.
# "search" is the long one with new examples each time.
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
IS_LONG = _PROFILE in ("long", "search")
for profile in ("short", "long", "search"):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        derandomize=profile != "search",
        suppress_health_check=list(hypothesis.HealthCheck),
    )
hypothesis.settings.load_profile(_PROFILE)
# A database of our own, even on a user's server.
DATABASE = f"test_django_mongo_sessions_{secrets.token_hex(4)}"

SERVERS = pytest.StashKey[ExitStack]()  # what ends with the tests
URI = pytest.StashKey[str]()


def pytest_generate_tests(metafunc):
    if "do" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        ways = [way for way in WAYS if not only or way[: len(only.args)] == only.args]
        metafunc.parametrize("engine, do", ways, indirect=True)
    elif "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ["mongod", "mongomock"], indirect=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "only(server[, form]): run in these ways alone")
    config.stash[SERVERS] = ExitStack()


def pytest_unconfigure(config):
    config.stash[SERVERS].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Let the workers of pytest-xdist share one mongod, each with a database of its own."""
    if URI not in node.config.stash:
        node.config.stash[URI] = start_mongod(node.config)
    node.workerinput["mongod_uri"] = node.config.stash[URI]


def start_mongod(config):
    """Return the URI of a real mongod: the user's, or one that ends with the tests."""
    servers = config.stash[SERVERS]
    try:
        if given := os.environ.get("MONGODB_URI"):
            return mongod.reached(given)
        folder = Path(servers.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
        return servers.enter_context(mongod.running(folder / "mongod"))
    except mongod.MongodError as error:
        pytest.exit(f"The tests need a real MongoDB. {error}", returncode=1)


@pytest.fixture(scope="session", autouse=True)
def as_on_a_live_site():
    """The engine uses the databases that the tests name, as it does where nothing is tested."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(testruns, "environment", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def fast_passwords():
    """Django's own way to hash one takes a quarter of a second."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def cookies_as_django_names_them():
    """The demo names its own, so that it is no part of what else runs on 127.0.0.1."""
    with override_settings(
        SESSION_COOKIE_NAME="sessionid",
        CSRF_COOKIE_NAME="csrftoken",
        MESSAGE_STORAGE="django.contrib.messages.storage.cookie.CookieStorage",
    ):
        yield


@pytest.fixture(scope="session")
def mongod_uri(pytestconfig):
    """The URI of a real mongod, where these tests have a database of their own."""
    worker = getattr(pytestconfig, "workerinput", None)
    uri = worker["mongod_uri"] if worker else start_mongod(pytestconfig)
    yield uri
    with MongoClient(uri) as client:
        client.drop_database(DATABASE)


@pytest.fixture(scope="session")
def empty(mongod_uri):
    """`empty()` empties the collection, on a client that outlives a test's."""
    with MongoClient(mongod_uri) as client:
        sessions = client[DATABASE].sessions

        def empty():
            sessions.drop_indexes()
            sessions.delete_many({})

        yield empty


@pytest.fixture
def session_files(tmp_path, monkeypatch):
    """The folder of Django's engine `file`, which keeps its first one in the class."""
    monkeypatch.setattr(file.SessionStore, "_storage_path", str(tmp_path), raising=False)
    return tmp_path


@pytest.fixture
def engine(request, settings):
    """The engine on an empty collection, on a real mongod or on mongomock; its name."""
    if request.param == "mongod":
        request.getfixturevalue("mongod_engine")
        yield request.param
        return
    use(settings, "mongomock://")  # each client of which begins with nothing
    yield request.param
    clients.reset()


@pytest.fixture
def mongod_engine(mongod_uri, empty, settings):
    """The engine on an empty collection of a real mongod; its URI."""
    empty()
    use(settings, mongod_uri)
    yield mongod_uri
    clients.reset()


def use(settings, uri):
    """Let the engine use this server, without an index.

    With the index, the server or mongomock might remove what a test wants to find expired.
    """
    settings.SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
    settings.MONGO_SESSIONS = {
        "URI": uri,
        "DATABASE": DATABASE,
        # One connection less in the background, which might still be half open when a loop ends
        # with its test.
        "CLIENT_OPTIONS": {"serverMonitoringMode": "poll"},
    }
    indexes._ensured.add((uri, DATABASE, "sessions"))


def encrypt_with(monkeypatch, *keys, mode=None, **given):
    """Set keys of MONGO_SESSIONS, by their defaults: other settings would mean another client."""
    given.setdefault("ENCRYPTION_KEYS", list(keys) or None)
    for name, value in {"ENCRYPTION": mode, **given}.items():
        monkeypatch.setattr(SETTINGS[name], "default", value)


@pytest.fixture
def alias(monkeypatch):
    """`alias(NAME=…)` makes an entry of DATABASES for MongoDB, and returns its alias."""
    usable = {"ENGINE": "tests.connection.backend", "NAME": "site", "HOST": "localhost"}

    def forget():
        with suppress(AttributeError):  # no connection was made
            del connections["mongo"]

    def add(**entry):
        forget()
        monkeypatch.setitem(
            connections.settings,
            "mongo",
            {
                **dict.fromkeys(("USER", "PASSWORD", "PORT"), ""),
                **{"OPTIONS": {}, "TEST": {"NAME": None}, "TIME_ZONE": None},
                **{"CONN_MAX_AGE": 0, "AUTOCOMMIT": True, "ATOMIC_REQUESTS": False},
                **{"CONN_HEALTH_CHECKS": False, **usable, **entry},
            },
        )
        return "mongo"

    yield add
    forget()


# What the engine's user may do: all that a site needs, and nothing with indexes.
ACTIONS = {"find", "insert", "update", "remove", "listIndexes", "collStats"}


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """A database, as its owner reaches it, of a server with users."""
    data = tmp_path_factory.mktemp("guarded") / "data"
    with mongod.running(data, "--auth", "--setParameter", "ttlMonitorSleepSecs=1") as uri:
        with MongoClient(uri) as client:
            client.admin.command("createUser", "root", pwd="pw", roles=["root"])
        with MongoClient(uri, username="root", password="pw") as client:
            client.site.command("createRole", "sessions", privileges=[], roles=[])
            client.site.command("createUser", "limited", pwd="pw", roles=["sessions"])
            yield client.site


@pytest.fixture(scope="session")
def failing_server(tmp_path_factory):
    """The URI of a server that fails on demand."""
    data = tmp_path_factory.mktemp("failing") / "data"
    with mongod.running(data, "--setParameter", "enableTestCommands=1") as uri:
        yield uri


@pytest.fixture
def allow(guarded):
    """`allow(*actions)` sets what the engine's user may do from here on."""

    def allow(*actions):
        resource = {"db": "site", "collection": "sessions"}
        privileges = [{"resource": resource, "actions": list(actions)}]
        guarded.command("updateRole", "sessions", privileges=privileges)

    return allow


@pytest.fixture
def limited(guarded, allow, settings):
    """The engine as a user with few privileges; the collection, as its owner reaches it."""
    allow(*ACTIONS)
    host, port = guarded.client.address
    settings.MONGO_SESSIONS = {"URI": f"mongodb://limited:pw@{host}:{port}/site"}
    yield guarded.sessions
    guarded.sessions.drop()
    clients.reset()


def collection():
    """Return the collection as the engine reaches it."""
    return clients.collection()[0]


# Matches sessions. A session that has moved leaves a marker, which is not one.
SESSIONS = {"revision": {"$ne": -1}}


def count_sessions():
    """Return how many sessions are stored."""
    return collection().count_documents(SESSIONS)


@pytest.fixture
def do(request, engine, monkeypatch):
    """`do(store, "save")` calls `save`, or awaits `asave`, natively or through a thread."""
    if request.param == "sync":
        yield lambda target, verb, *args, **kwargs: getattr(target, verb)(*args, **kwargs)
        return
    age = 0 if request.param == "native" else float("inf")
    monkeypatch.setattr(clients, "PROMOTION_AGE", age)
    loop = asyncio.new_event_loop()

    def call(target, verb, *args, **kwargs):
        twin = f"_a{verb[1:]}" if verb.startswith("_") else f"a{verb}"
        return loop.run_until_complete(getattr(target, twin)(*args, **kwargs))

    yield call
    end(loop)


@contextmanager
def browser(key, is_async):
    """Yield `get(url)`, which requests a page with the cookie of a session."""
    loop = asyncio.new_event_loop()

    def get(url):
        client = (AsyncClient if is_async else Client)(raise_request_exception=False)
        client.cookies["sessionid"] = key
        response = client.get(url)
        return loop.run_until_complete(response) if is_async else response

    yield get
    end(loop)


def end(loop):
    """End a loop as asyncio.run() does."""

    async def finish():
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(finish())
    loop.close()


@pytest.fixture
def stored(do):
    """Store a session with this data, and return its store."""

    def store(cls=SessionStore, **data):
        session = cls()
        session.update(data)
        do(session, "save")
        return session

    return store


class Commands(CommandListener):
    """What was sent, command by command."""

    def __init__(self):
        self.sent = []
        self.replies = []

    def started(self, event):
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event):
        self.replies.append((event.command_name, event.reply))

    def failed(self, event):
        pass

    def names(self):
        names = [name for name, _ in self.sent]
        self.sent.clear()
        return names


@pytest.fixture
def commands(settings):
    """What the engine sends to the server from here on."""
    listener = Commands()
    given = settings.MONGO_SESSIONS
    options = {**given["CLIENT_OPTIONS"], "event_listeners": [listener]}
    settings.MONGO_SESSIONS = {**given, "CLIENT_OPTIONS": options}
    return listener


@pytest.fixture
def soon_told(monkeypatch):
    """Fail soon without a server: PyMongo raises nothing before it has looked twice."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.05)


@pytest.fixture
def logged(caplog):
    """What the engine has logged; asyncio's debug mode logs too, of slow steps."""
    names = ("django_mongo_sessions", "django.security.SuspiciousSession")
    return lambda: [record for record in caplog.records if record.name in names]


@pytest.fixture
def random_text():
    """Text that hardly compresses: to 3/4 of its length at best."""
    return lambda size: base64.b64encode(secrets.token_bytes(size * 3 // 4)).decode()
