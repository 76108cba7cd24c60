"""Which requests record their client: those that store the session anyway."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model, login
from django.contrib.sessions import middleware as djangos
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.storage import documents
from tests.conftest import collection
from tests.middleware.helpers import COOKIE, add, age, asynchronous, document, synchronous

FIREFOX = {"HTTP_USER_AGENT": "Firefox/140.0", "REMOTE_ADDR": "203.0.113.7"}
CHROME = {"HTTP_USER_AGENT": "Chrome/141.0\x1b[2J", "REMOTE_ADDR": "2001:db8::7"}
NONE = {"HTTP_USER_AGENT": "", "REMOTE_ADDR": ""}
OF = {
    "Firefox/140.0": {"user_agent": "Firefox/140.0", "address": "203.0.113.0/24"},
    "Chrome/141.0\x1b[2J": {"user_agent": "Chrome/141.0 [2J", "address": "2001:db8::/48"},
    "": {},
}


@pytest.fixture
def visit(form, loop, settings):
    """`visit(steps, client, key)` sends a request, sync and async; the response."""
    settings.MONGO_SESSIONS.update({"USER_AGENT": True, "ADDRESS": "prefix"})

    def visit(steps, client, key=None):
        request = RequestFactory().get("/", **client)
        if key is not None:
            request.COOKIES[COOKIE] = key
        if form == "sync":
            return SessionMiddleware(synchronous(steps))(request)
        return loop.run_until_complete(SessionMiddleware(asynchronous(steps))(request))

    return visit


def recorded():
    return documents.recorded(document())


def of(client):
    return OF[client["HTTP_USER_AGENT"]]


@pytest.fixture
def key(visit):
    """The key of a session that Firefox has stored."""
    return visit(["_get_session", add], FIREFOX).cookies[COOKIE].value


def test_the_request_that_begins_a_session_is_recorded(visit, key):
    assert recorded() == of(FIREFOX)


@pytest.mark.parametrize("client", [CHROME, NONE])
@pytest.mark.parametrize(
    "steps",
    [
        ["_get_session", lambda session: session.update({"b": 3})],
        ["_get_session", "save"],
        ["cycle_key"],
        [("mutate", lambda data: data.update(b=3))],
    ],
    ids=["changes", "saves", "cycles", "mutates"],
)
def test_a_request_that_stores_the_session_is_recorded(visit, key, steps, client):
    visit(steps, client, key)

    assert recorded() == of(client)


@pytest.mark.parametrize("steps", [[], ["_get_session"], ["_get_session", add, 500]])
def test_a_request_that_stores_nothing_is_not_recorded(visit, key, steps):
    before = document()

    response = visit(steps, CHROME, key)

    assert document() == before
    assert not response.cookies


def test_a_request_that_moves_the_expiry_is_recorded(visit, key, hourly):
    age(3601)

    visit(["_get_session"], CHROME, key)

    assert recorded() == of(CHROME)
    assert document()["revision"] == 0


def test_within_the_interval_a_reader_is_not_recorded(visit, key, hourly):
    before = document()

    visit(["_get_session"], CHROME, key)

    assert document() == before


def test_with_djangos_setting_every_request_is_recorded(visit, key, settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True

    visit([], CHROME, key)

    assert recorded() == of(CHROME)


def test_what_address_from_raises_does_not_fail_the_request(visit, settings, logged):
    def fails(request):
        raise KeyError("HTTP_X_REAL_IP")

    settings.MONGO_SESSIONS["ADDRESS_FROM"] = fails

    response = visit(["_get_session", add], FIREFOX)

    assert response.status_code == 200
    assert recorded() == {"user_agent": "Firefox/140.0"}
    assert "ADDRESS_FROM has raised KeyError" in logged()[0].getMessage()


def test_what_is_turned_off_goes_with_the_next_touch(visit, key, hourly, settings):
    settings.MONGO_SESSIONS.update({"USER_AGENT": False, "ADDRESS": None})
    age(3601)

    visit(["_get_session"], CHROME, key)

    assert recorded() == {}


# Sign-ins, through Django's handlers


def sign_in(request):
    login(request, get_user_model().objects.get())
    return HttpResponse()


async def asign_in(request):
    # Before Django 5.0 there is no alogin().
    await sync_to_async(sign_in)(request)
    return HttpResponse()


urlpatterns = [path("in/", sign_in), path("ain/", asign_in)]


@pytest.fixture
def user(db):
    return get_user_model().objects.create_user("alice", password="pw")


@pytest.fixture(params=["WSGI", "ASGI"])
def enter(request, mongod_engine, settings, user):
    """`enter(client)` signs the user in, through the whole stack."""
    settings.ROOT_URLCONF = __name__
    settings.MONGO_SESSIONS.update({"USER_AGENT": True, "ADDRESS": "prefix"})
    agent = {"User-Agent": FIREFOX["HTTP_USER_AGENT"]}

    def enter():
        if request.param == "WSGI":
            return Client().get("/in/", headers=agent)
        return asyncio.run(AsyncClient().get("/ain/", headers=agent))

    return enter


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["ours", "django's"])
def test_a_sign_in_is_recorded_with_either_middleware(enter, settings, user, path):
    if path == "django's":
        settings.MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ]

    assert enter().status_code == 200

    assert recorded() == {
        "auth_hash": documents.hash_of(user.get_session_auth_hash()),
        "user_agent": "Firefox/140.0",
        "address": "127.0.0.0/24",
    }
    assert document()["user_id"] == str(user.pk)


@pytest.mark.django_db
def test_with_djangos_middleware_only_the_sign_in_is_recorded(mongod_engine, settings, user):
    settings.MONGO_SESSIONS.update({"USER_AGENT": True, "ADDRESS": "prefix"})

    def respond(view, client, key=None):
        request = RequestFactory().get("/", **client)
        request.COOKIES = {COOKIE: key} if key else {}
        return djangos.SessionMiddleware(view)(request)

    def change(request):
        request.session["b"] = 2
        return HttpResponse()

    key = respond(sign_in, FIREFOX).cookies[COOKIE].value
    respond(change, CHROME, key)

    assert document()["revision"] > 0
    assert {**recorded(), "auth_hash": None} == {**of(FIREFOX), "auth_hash": None}


@pytest.mark.django_db
def test_a_sign_in_with_a_framework_s_own_request_records_that_of_the_middleware(
    mongod_engine, settings, user
):
    settings.MONGO_SESSIONS.update({"USER_AGENT": True})

    class Wrapped:
        """A request as Django REST framework's, which ends before the response."""

        def __init__(self, request):
            self._request = request

        def __getattr__(self, name):
            return getattr(self._request, name)

    def view(request):
        wrapped = Wrapped(request)
        login(wrapped, user)
        return HttpResponse()

    SessionMiddleware(view)(RequestFactory().get("/", **FIREFOX))

    assert recorded()["user_agent"] == "Firefox/140.0"


@pytest.mark.django_db
def test_a_sign_in_without_a_request_or_another_engines_session_is_left_alone(
    mongod_engine, settings, user
):
    from django.contrib.auth.signals import user_logged_in

    request = RequestFactory().get("/")
    request.session = {}

    user_logged_in.send(type(user), request=None, user=user)
    user_logged_in.send(type(user), request=request, user=user)

    assert collection().count_documents({}) == 0
    assert request.session == {}
    assert SessionStore()._client is None
