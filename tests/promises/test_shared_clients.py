"""Clients that the site makes and shares: how they are asked for, and what if one is closed.

The site's code may take its time, use sessions itself, or fail, and it owns its clients.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from bson.errors import InvalidDocument
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import clear_url_caches, path
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import (
    AutoReconnect,
    InvalidOperation,
    ServerSelectionTimeoutError,
)

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import breaker, clients
from django_mongo_sessions.exceptions import ServerUnavailable
from tests.conftest import DATABASE, end

KEY = "0123456789abcdefghijklmnopqrstuv"


class Site:
    """A site that shares its client with the sessions, which are used in one of the forms."""

    def __init__(self, form, uri, settings):
        self.form, self.uri, self.settings = form, uri, settings
        self.setting = "ASYNC_CLIENT" if form == "native" else "CLIENT"
        self.kind = AsyncMongoClient if form == "native" else MongoClient
        self.loop = asyncio.new_event_loop()
        self.made = []  # the last one is shared
        self.calls = 0
        self.use(lambda: self.shared())

    def use(self, factory):
        """Let the engine ask this for clients."""

        def counting():
            self.calls += 1
            return factory()

        self.settings.MONGO_SESSIONS = {
            "URI": self.uri,
            "DATABASE": DATABASE,
            "ASYNC": "native" if self.form == "native" else "threads",
            self.setting: counting,
        }

    def shared(self):
        return self.made[-1] if self.made else self.make()

    def make(self, **options):
        """Make the client that is shared from here on."""
        # With a connection less in the background, which a loop might leave half open at its end.
        self.made.append(self.kind(self.uri, serverMonitoringMode="poll", **options))
        return self.made[-1]

    def close(self):
        """Close the client that is shared at the moment."""
        closed = self.made[-1].close()
        if self.form == "native":
            self.loop.run_until_complete(closed)

    def do(self, store, verb, *args):
        """Call a method of a store, or await it in the loop of the site."""
        if self.form == "sync":
            return getattr(store, verb)(*args)
        return self.loop.run_until_complete(getattr(store, f"a{verb}")(*args))

    def load(self):
        """Load a session that is not there, in a loop of its own if it is awaited."""
        store = SessionStore(KEY)
        return store.load() if self.form == "sync" else asyncio.run(store.aload())

    def collection(self):
        """Return the collection as the engine reaches it."""
        if self.form != "native":
            return clients.collection()
        return self.loop.run_until_complete(clients.acollection())


@pytest.fixture(params=["sync", "native", "threads"])
def site(request, mongod_uri, settings):
    with MongoClient(mongod_uri) as client:
        client[DATABASE].sessions.delete_many({})
    settings.SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
    site = Site(request.param, mongod_uri, settings)
    yield site
    for client in site.made:
        closed = client.close()
        if site.form == "native":
            site.loop.run_until_complete(closed)
    clients.reset()
    end(site.loop)


def begin(site):
    """Store a session, and return its key."""
    store = SessionStore()
    store["a"] = 1
    site.do(store, "save")
    return store.session_key


# Where one client serves all threads
by_threads = pytest.mark.parametrize("site", ["sync", "threads"], indirect=True)


# While the client is made


@by_threads
def test_a_factory_may_wait_for_a_thread_that_uses_a_session(site):
    inner = []

    def factory():
        if site.calls == 1:
            thread = threading.Thread(target=lambda: inner.append(site.load()), daemon=True)
            thread.start()
            thread.join(20)
        return site.shared()

    site.use(factory)

    assert site.load() == {}
    assert inner == [{}]


@by_threads
def test_a_factory_may_use_a_session_itself(site):
    inner = []

    def factory():
        if site.calls == 1:
            inner.append(SessionStore(KEY).load())
        return site.shared()

    site.use(factory)

    assert site.load() == {}
    assert inner == [{}]


def test_those_who_come_at_once_do_not_wait_for_each_others_factory(site):
    at_once = threading.Barrier(4)

    def factory():
        at_once.wait(20)
        raise ImproperlyConfigured("no client yet")

    site.use(factory)

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(site.load) for _ in range(4)]

    assert [str(load.exception()) for load in loads] == ["no client yet"] * 4


def test_a_client_of_settings_that_have_changed_meanwhile_is_not_used(site):
    def outdated():
        site.use(site.shared)
        return site.kind("mongodb://127.0.0.1:1", connect=False)

    site.use(outdated)

    assert site.do(SessionStore(KEY), "load") == {}
    assert site.collection().client is site.made[-1]


# What a factory raises


class NoVault(Exception):
    """An error of the site's own, whose arguments are not those of its message."""

    def __init__(self, host, *, port):
        super().__init__(f"{host} does not reply")
        self.port = port


def failing(error):
    def factory():
        raise error

    return factory


def raised_by(site):
    with pytest.raises(Exception) as raised:  # noqa: PT011  # the tests look at it
        site.do(SessionStore(KEY), "load")
    return raised.value


def traceback_length(error):
    return len(pytest.ExceptionInfo.from_exception(error).traceback)


@pytest.mark.parametrize(
    "error",
    [ImproperlyConfigured("no"), NoVault("vault", port=1), OSError(2, "missing", "a.pem")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_factory_passes_and_it_is_not_called_again_at_once(site, error):
    site.use(failing(error))

    first, *others = [raised_by(site) for _ in range(3)]

    assert first is error
    assert site.calls == 1
    for other in others:
        assert type(other) is type(error)
        assert (str(other), vars(other)) == (str(error), vars(error))
    assert len({id(each) for each in (first, *others)}) == 3
    assert traceback_length(others[0]) == traceback_length(others[1])


def test_an_outage_that_the_factory_meets_is_one_of_the_following_requests_too(site):
    error = ServerSelectionTimeoutError("a:1: no, Timeout: 1s, Topology Description: <Topology>")
    site.use(failing(error))

    first, second = raised_by(site), raised_by(site)

    assert first is error
    assert isinstance(second, ServerUnavailable)
    assert "ended in ServerSelectionTimeoutError (a:1: no). The next" in str(second)
    assert site.calls == 1


def test_a_factory_that_has_failed_is_called_again_later(site, monkeypatch):
    monkeypatch.setattr(breaker, "PROBE_INTERVAL", 0)

    def factory():
        if site.calls < 3:
            raise AutoReconnect("cut off")
        return site.shared()

    site.use(factory)
    assert [type(raised_by(site)) for _ in range(2)] == [AutoReconnect] * 2

    assert site.do(SessionStore(KEY), "load") == {}
    assert site.do(SessionStore(KEY), "load") == {}
    assert site.calls == 3


def test_what_is_remembered_of_a_factory_is_forgotten_with_the_settings(site):
    site.use(failing(NoVault("vault", port=1)))
    raised_by(site)

    site.use(site.shared)

    assert site.do(SessionStore(KEY), "load") == {}


@pytest.mark.parametrize("site", ["native"], indirect=True)
def test_a_loop_does_not_learn_of_another_loops_factory(site):
    site.use(failing(NoVault("vault", port=1)))
    for _ in range(2):
        with pytest.raises(NoVault):
            site.load()

    assert site.calls == 2
    assert SessionStore(KEY).load() == {}  # the blocking client has another factory


@pytest.mark.parametrize(
    ("error", "status"), [(AutoReconnect("no server"), 503), (ImproperlyConfigured("no"), 500)]
)
def test_a_response_has_the_status_of_what_the_factory_raises(site, settings, error, status):
    def view(request):
        return HttpResponse(request.session.get("a"))

    async def aview(request):
        return HttpResponse((await request.session.aload()).get("a"))

    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django_mongo_sessions.middleware.SessionMiddleware"]
    urlpatterns[:] = [path("", view if site.form == "sync" else aview)]
    clear_url_caches()
    site.use(failing(error))
    cookie = {"HTTP_COOKIE": f"sessionid={KEY}"}

    if site.form == "sync":
        get = Client(raise_request_exception=False, **cookie).get
    else:
        browser = AsyncClient(raise_request_exception=False)
        browser.cookies["sessionid"] = KEY
        get = lambda url: site.loop.run_until_complete(browser.get(url))  # noqa: E731
    responses = [get("/"), get("/")]

    assert [response.status_code for response in responses] == [status] * 2
    assert site.calls == 1


urlpatterns = []


# A client that its owner has closed


def test_a_closed_client_is_replaced_by_the_one_that_is_shared_now(site):
    key = begin(site)
    site.close()
    site.make()

    store = SessionStore(key)
    assert site.do(store, "load") == {"a": 1}
    store["b"] = 2
    site.do(store, "save")

    assert site.do(SessionStore(key), "load") == {"a": 1, "b": 2}
    assert site.calls == 2
    assert site.collection().client is site.made[-1]


def test_a_method_goes_on_if_the_client_is_closed_in_the_middle_of_it(site):
    key = begin(site)
    tasks = []

    def change(data):
        if not tasks:
            closed = site.made[-1].close()
            tasks.append(site.loop.create_task(closed) if site.form == "native" else None)
            site.make()
        data["n"] = data.get("n", 0) + 1

    site.do(SessionStore(key), "mutate", change)

    assert site.do(SessionStore(key), "load") == {"a": 1, "n": 1}


@by_threads
def test_threads_that_find_the_client_closed_at_once_all_go_on(site):
    key = begin(site)
    site.close()
    site.make()
    at_once = threading.Barrier(8)

    def load():
        at_once.wait(20)
        store = SessionStore(key)
        return store.load() if site.form == "sync" else asyncio.run(store.aload())

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load) for _ in range(8)]

    assert [load.result() for load in loads] == [{"a": 1}] * 8
    assert clients.collection().client is site.made[-1]


@pytest.mark.parametrize("site", ["native"], indirect=True)
def test_tasks_that_find_the_client_closed_at_once_ask_for_one(site):
    key = begin(site)
    site.close()
    site.make()

    async def load_all():
        return await asyncio.gather(*(SessionStore(key).aload() for _ in range(8)))

    assert site.loop.run_until_complete(load_all()) == [{"a": 1}] * 8
    assert site.calls == 2


def test_a_call_that_finds_the_client_closed_later_uses_the_one_in_its_place(site):
    begin(site)
    closed = site.collection()
    site.close()
    site.make()

    reopened = [closed.reopen(closed), closed.reopen(closed)]
    if site.form == "native":
        reopened = [site.loop.run_until_complete(each) for each in reopened]

    assert reopened[0] is reopened[1] is site.collection()
    assert site.calls == 2


def test_a_factory_that_returns_what_is_closed_is_told_what_to_do(site):
    key = begin(site)
    site.close()

    for calls in (2, 3):
        with pytest.raises(InvalidOperation, match=r"still returns it.*new client"):
            site.do(SessionStore(key), "load")
        assert site.calls == calls

    site.make()
    assert site.do(SessionStore(key), "load") == {"a": 1}


def test_a_factory_is_asked_once_even_if_the_next_client_is_closed_too(site):
    key = begin(site)
    site.close()
    site.make()
    site.close()

    with pytest.raises(InvalidOperation, match="after close"):
        site.do(SessionStore(key), "load")

    assert site.calls == 2


def test_what_a_factory_raises_for_a_closed_client_is_the_requests_error(site):
    key = begin(site)
    site.close()
    error = InvalidDocument("cannot encode object: 7, of type: <class 'int'>")

    def factory():
        raise error

    site.shared = factory
    with pytest.raises(InvalidDocument) as raised:
        site.do(SessionStore(key), "load")

    assert raised.value is error
    assert "object: 7" in str(error)  # as it was raised


def test_a_closed_client_is_replaced_even_if_it_knew_of_an_outage(site):
    site.make(heartbeatFrequencyMS=1000)
    key = begin(site)
    site.collection().gate.outage = "NetworkTimeout"
    site.close()
    site.make()

    assert site.do(SessionStore(key), "load") == {"a": 1}


def test_a_client_of_ours_that_is_closed_stays_closed(site):
    del site.settings.MONGO_SESSIONS[site.setting]
    clients.reset()
    begin(site)
    closed = site.collection().client.close()
    if site.form == "native":
        site.loop.run_until_complete(closed)

    with pytest.raises(InvalidOperation, match="after close"):
        begin(site)
