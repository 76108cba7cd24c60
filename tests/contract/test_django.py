"""Django's own tests of sessions and of their middleware, run on our store."""

import asyncio

import pytest
from django.test import SimpleTestCase, override_settings

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.middleware import SessionMiddleware
from tests.contract.django_source import sessions_tests

django_tests = sessions_tests()
django_tests.DatabaseSession = SessionStore


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)


@pytest.fixture
def mongomock_engine(settings):
    settings.MONGO_SESSIONS = {"URI": "mongomock://"}
    yield
    clients.reset()


@pytest.mark.usefixtures("mongod_engine")
class TestStore(django_tests.SessionTestsMixin, SimpleTestCase):
    """Async by way of threads, since every test has a new loop."""

    backend = SessionStore


@pytest.mark.usefixtures("mongod_engine", "native")
class TestNativeStore(django_tests.SessionTestsMixin, SimpleTestCase):
    """Async with a client for each loop."""

    backend = SessionStore


@override_settings(USE_TZ=False, TIME_ZONE="America/Chicago")
@pytest.mark.usefixtures("mongod_engine")
class TestStoreWithoutTimeZones(django_tests.SessionTestsMixin, SimpleTestCase):
    """West of Greenwich, where a local time that is mistaken for UTC is in the past."""

    backend = SessionStore


@pytest.mark.usefixtures("mongomock_engine")
class TestStoreOnMongomock(django_tests.SessionTestsMixin, SimpleTestCase):
    """As a project's own tests use it."""

    backend = SessionStore


@pytest.mark.usefixtures("mongod_engine")
class TestDjangosMiddleware(django_tests.SessionMiddlewareTests):
    """Django's middleware on our store."""

    # It looks the session up in Django's own table.
    test_empty_session_saved = None


class InALoop:
    """Our middleware in an asynchronous stack, for tests that call one as they call Django's."""

    def __init__(self, get_response):
        async def respond(request):
            return get_response(request)

        self.middleware = SessionMiddleware(respond)

    def __call__(self, request):
        return asyncio.run(self.middleware(request))


@pytest.fixture
def our_middleware(monkeypatch):
    monkeypatch.setattr(django_tests, "SessionMiddleware", SessionMiddleware)


@pytest.fixture
def our_middleware_in_a_loop(monkeypatch):
    monkeypatch.setattr(django_tests, "SessionMiddleware", InALoop)


@pytest.mark.usefixtures("mongod_engine", "our_middleware")
class TestMiddleware(TestDjangosMiddleware):
    """Our middleware in Django's place."""


@pytest.mark.usefixtures("mongod_engine", "native", "our_middleware_in_a_loop")
class TestNativeMiddleware(TestDjangosMiddleware):
    """The same in an event loop with a client of its own."""


def test_the_contract_is_whole():
    names = [name for name in dir(TestStore) if name.startswith("test_")]

    assert len(names) >= 37  # Django 4.2's; later ones have more
    assert sum(name.startswith("test_") for name in dir(TestMiddleware)) >= 11
