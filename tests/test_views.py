"""The page of a user's sessions: the view, and its asynchronous twin."""

import asyncio
import logging
import re
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from types import ModuleType

import pytest
from asgiref.sync import async_to_sync
from bson import ObjectId
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import MD5PasswordHasher, make_password
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out, user_login_failed
from django.contrib.messages import get_messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import include, path
from django.utils.datastructures import MultiValueDict
from django.views.debug import ExceptionReporter, get_exception_reporter_filter
from django.views.decorators.debug import sensitive_variables

from django_mongo_sessions import users, views
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.signals import session_revoked
from django_mongo_sessions.storage import dates, documents
from django_mongo_sessions.urls import urlpatterns
from django_mongo_sessions.views import AsyncSessionsView, SessionsView
from tests.conftest import collection, count_sessions
from tests.test_users import FIREFOX, OBJECT_ID, SAFARI, UUID_TEXT, ObjectIdField, data_of, model

PAGE = "/account/sessions/"
PASSWORD = "correct horse battery"
SIGN_IN = f"/in/?next={PAGE}"
GONE = "There is no such session any more. Nothing was signed out."

# What a form may hold that names no session of the user.
UNKNOWN_CHOICES = [
    {},
    {"sessions": "x"},
    {"session": "junk"},
    {"session": ""},
    {"session": "\0"},
    {"session": "\ud800".encode("utf-8", "surrogatepass")},
    {"session": "x" * 10_000},
    {"others": ["1", "1"]},
    {"session": "junk", "all": "1"},
]


def hello(request):
    request.session.modified = True  # so that it is stored with its client
    return HttpResponse("hello")


@pytest.fixture(params=[SessionsView, AsyncSessionsView])
def page(request, mongod_engine, settings, db):
    """A site with the page; the class of its view."""
    urls = ModuleType("urls_of_the_page")
    urls.urlpatterns = [
        path(
            "account/sessions/", include(([path("", request.param.as_view(), name="list")], "it"))
        ),
        path("hello/", hello, name="index"),  # where the demo's template leads
    ]
    settings.ROOT_URLCONF = urls
    settings.LOGIN_URL = "/in/"
    settings.LOGOUT_REDIRECT_URL = None
    keys = {"USER_AGENT": True, "ADDRESS": "prefix"}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **keys}
    return request.param


@pytest.fixture
def alice(page):
    return User.objects.create_user("alice", password=PASSWORD)


@pytest.fixture
def stale(page, settings):
    """Every sign-in is too old to end sessions without the password."""
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "REAUTHENTICATE": 1e-9}


def signed_in(user, agent=FIREFOX, **options):
    client = Client(HTTP_USER_AGENT=agent, **options)
    client.force_login(user)
    client.get("/hello/")
    return client


def is_signed_in(client):
    return SESSION_KEY in client.session


def id_of(client):
    """Return the id of a client's session, as the page has it."""
    request = RequestFactory().get("/")
    request.session = SessionStore(client.session.session_key)
    found = users.list_sessions(request.session[SESSION_KEY], request=request)
    return next(each.id for each in found if each.is_current)


def post(client, **data):
    """Send a form of the page, and return the texts of the messages. It must lead back to it."""
    client.cookies.pop("messages", None)  # which no page has shown
    response = client.post(PAGE, data)
    assert (response.status_code, response.url) == (302, PAGE)
    assert response["Cache-Control"] == "private, no-store"
    return texts(response)


def texts(response):
    return [each.message for each in get_messages(response.wsgi_request)]


@contextmanager
def received(signal):
    """What a signal tells its receivers."""
    told = []

    def receive(**kwargs):
        told.append(kwargs)

    signal.connect(receive)
    try:
        yield told
    finally:
        signal.disconnect(receive)


# The list


def test_an_anonymous_visitor_is_sent_to_sign_in(page, client):
    for response in (client.get(PAGE), client.post(PAGE, {"all": "1"})):
        assert (response.status_code, response.url) == (302, SIGN_IN)
        assert response["Cache-Control"] == "private, no-store"


def test_the_list_shows_this_session_and_the_others(alice):
    other, client = signed_in(alice, SAFARI), signed_in(alice)
    signed_in(User.objects.create_user("bob"))

    response = client.get(PAGE)

    assert response["Cache-Control"] == "private, no-store"
    assert [each.id for each in response.context["others"]] == [id_of(other)]
    assert response.context["current"].id == id_of(client)
    html = response.content.decode()
    assert html.index("Firefox on Linux") < html.index("Safari on iPhone")
    assert html.count("127.0.0.0/24") == 2
    assert id_of(client) not in html
    assert client.head(PAGE).status_code == 200


def test_what_a_session_says_of_itself_is_shown_as_text(alice):
    client = signed_in(alice)
    signed_in(alice, "A&B'C/1.0 (<script>)")
    collection().update_many({}, {"$set": {"address": "<b>here</b>"}})

    html = client.get(PAGE).content.decode()

    assert "<script" not in html
    assert "A&amp;B&#x27;C" in html
    assert "&lt;b&gt;here&lt;/b&gt;" in html


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_date_that_the_time_zone_does_not_have_is_in_utc(alice, settings, zone):
    settings.TIME_ZONE = zone
    odd = dates.LATEST if zone == "Asia/Tokyo" else dates.EARLIEST
    signed_in(alice)
    collection().update_many({}, {"$set": {"created_at": odd, "seen_at": odd}})

    html = signed_in(alice).get(PAGE).content.decode()

    assert odd.replace(tzinfo=None, microsecond=0).isoformat() in html


def test_a_session_that_has_recorded_nothing_is_an_unknown_device(alice, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "USER_AGENT": False, "ADDRESS": None}

    html = signed_in(alice).get(PAGE).content.decode()

    assert "Unknown device" in html
    assert "Address" not in html
    assert "You are signed in on no other device." in html


@pytest.mark.parametrize(
    ("key", "pk"),
    [(models.UUIDField, uuid.UUID(UUID_TEXT)), (ObjectIdField, ObjectId(OBJECT_ID))],
)
def test_a_user_may_have_any_key_and_no_name(page, key, pk):
    user = model(key(primary_key=True))(pk=pk, password="one")
    type(user).USERNAME_FIELD = "password"
    session = SessionStore()
    session.update(data_of(user))
    session.save()
    request = RequestFactory().get(PAGE)
    request.session, request.user = session, user

    response = page.as_view(extra_context={"title": "Ours"})(request)
    if asyncio.iscoroutine(response):
        response = asyncio.run(response)

    assert b"<h1>Ours</h1>" in response.content
    assert b"This device" in response.content


def test_moments_are_those_of_the_site_without_use_tz_too(alice, settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Tokyo"
    other, client = signed_in(alice), signed_in(alice)
    moment = datetime(2030, 2, 1, 13, 30, tzinfo=timezone.utc)
    itself = {"_id": documents.document_id(other.session.session_key)}
    collection().update_one(itself, {"$set": {"created_at": moment}})

    assert b"Feb. 1, 2030, 10:30 p.m." in client.get(PAGE).content
    post(client, others="1")


def test_the_urls_have_the_list():
    [pattern] = urlpatterns

    assert (pattern.name, pattern.callback.view_class) == ("list", SessionsView)


# Ending


def test_one_session_is_ended(alice):
    phone, other, client = signed_in(alice, SAFARI), signed_in(alice), signed_in(alice)

    with received(session_revoked) as told:
        assert post(client, session=id_of(phone)) == ["Signed out: Safari on iPhone."]

    assert not is_signed_in(phone)
    assert is_signed_in(other)
    assert is_signed_in(client)
    assert [(each["reason"], each["request"] is None) for each in told] == [("user", False)]


def test_the_others_are_ended(alice):
    others, client = [signed_in(alice) for _ in range(2)], signed_in(alice)
    bob = signed_in(User.objects.create_user("bob"))

    assert post(client, others="1") == ["2 other devices were signed out."]

    assert [is_signed_in(each) for each in (*others, client, bob)] == [False, False, True, True]


def test_all_are_ended(alice):
    other, client = signed_in(alice), signed_in(alice)

    with received(user_logged_out) as told:
        response = client.post(PAGE, {"all": "1"})

    assert response.url == SIGN_IN
    assert response.cookies["sessionid"]["max-age"] == 0
    assert texts(response) == ["You are signed out on all devices."]
    assert not is_signed_in(other)
    assert count_sessions() == 0
    assert len(told) == 1


@pytest.mark.parametrize(("target", "url"), [(None, SIGN_IN), ("/hello/", "/hello/")])
def test_signing_out_ends_this_session_alone(alice, settings, target, url):
    settings.LOGOUT_REDIRECT_URL = target
    other, client = signed_in(alice), signed_in(alice)

    with received(user_logged_out) as told:
        response = client.post(PAGE, {"signout": "1"})

    assert response.url == url
    assert not is_signed_in(client)
    assert is_signed_in(other)
    assert [each["user"] for each in told] == [alice]


def test_ones_own_session_is_ended_by_its_id_too(alice):
    client = signed_in(alice)

    assert post(client, session=id_of(client)) == ["Signed out: Firefox on Linux."]
    assert not is_signed_in(client)


def test_a_choice_that_names_no_session_ends_nothing(alice):
    signed_in(alice)
    client = signed_in(alice)

    for data in UNKNOWN_CHOICES:
        assert post(client, **data) == [GONE]
    assert count_sessions() == 2


def test_a_session_of_another_user_or_one_that_is_gone_ends_nothing(alice, stale):
    bob = signed_in(User.objects.create_user("bob"))
    other, client = signed_in(alice), signed_in(alice)
    ids = [id_of(bob), id_of(other)]
    other.session.flush()

    for id in ids:
        assert post(client, session=id) == [GONE]  # and no password is asked for
    assert count_sessions() == 2


def test_a_session_that_ends_while_the_request_runs_is_gone(alice, settings):
    class Backend(ModelBackend):
        def authenticate(self, request, **credentials):
            other.session.flush()
            return super().authenticate(request, **credentials)

    use_backend(settings, Backend)
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "REAUTHENTICATE": 1e-9}
    other, client = signed_in(alice), signed_in(alice)

    assert post(client, session=id_of(other), password=PASSWORD) == [GONE]


def test_a_site_without_messages_is_told_nothing(alice, settings):
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "messages" not in each]
    other, client = signed_in(alice), signed_in(alice)

    assert client.post(PAGE, {"session": id_of(other)}).url == PAGE
    assert not is_signed_in(other)


def test_a_form_without_a_token_is_rejected(alice):
    client = signed_in(alice, enforce_csrf_checks=True)

    assert client.post(PAGE, {"all": "1"}).status_code == 403
    assert is_signed_in(client)


def test_a_site_without_djangos_middleware_for_it_checks_the_token_too(alice, settings):
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "csrf" not in each]
    client = signed_in(alice, enforce_csrf_checks=True)

    assert client.post(PAGE, {"all": "1"}).status_code == 403
    html = client.get(PAGE).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html)[1]
    assert post(client, others="1", csrfmiddlewaretoken=token)


def test_djangos_own_cache_stores_nothing(alice, settings):
    update, fetch = "UpdateCacheMiddleware", "FetchFromCacheMiddleware"
    around = [f"django.middleware.cache.{name}" for name in (update, fetch)]
    settings.MIDDLEWARE = [around[0], *settings.MIDDLEWARE, around[1]]
    other, client = signed_in(alice), signed_in(alice)
    for _ in range(2):  # the first response sets the cookie for the forms
        client.get(PAGE)
    other.session.flush()

    assert b'name="session"' not in client.get(PAGE).content


def test_who_impersonates_sees_the_list_and_ends_nothing(alice):
    other, client = signed_in(alice), signed_in(alice)
    session = client.session
    session["hijack_history"] = ["1"]
    session.save()

    html = client.get(PAGE).content.decode()
    assert "Only the owner can sign out devices." in html
    assert "Firefox on Linux" in html
    assert "<button" not in html
    for data in ({"session": id_of(other)}, {"all": "1"}, {"signout": "1"}, {"again": "1"}):
        [text] = post(client, **data)
        assert "on behalf of its owner" in text
    assert is_signed_in(other)
    assert is_signed_in(client)


# The password


def use_backend(settings, backend):
    """Sign in, and check passwords, with this class."""
    module = f"{__name__}.{backend.__name__}"
    globals()[backend.__name__] = backend
    settings.AUTHENTICATION_BACKENDS = [module]


@pytest.mark.parametrize("choice", ["session", "others", "all"])
def test_an_old_sign_in_needs_the_password(alice, stale, choice):
    other, client = signed_in(alice), signed_in(alice)
    data = {choice: id_of(other) if choice == "session" else "1"}

    asked = client.post(PAGE, data)
    with received(user_login_failed) as failed:
        wrong = client.post(PAGE, {**data, "password": "wrong"})
    assert is_signed_in(other)
    right = client.post(PAGE, {**data, "password": PASSWORD})

    for response in (asked, wrong):
        assert response.status_code == 200
        assert response["Cache-Control"] == "private, no-store"
        assert f'name="{choice}" value="{data[choice]}"' in response.content.decode()
    assert b"not correct" not in asked.content
    assert b"not correct" in wrong.content
    assert b"wrong<" not in wrong.content
    assert [each["credentials"]["username"] for each in failed] == ["alice"]
    assert right.status_code == 302
    assert not is_signed_in(other)


def test_signing_out_never_needs_the_password(alice, stale):
    client = signed_in(alice)

    client.post(PAGE, {"signout": "1"})

    assert not is_signed_in(client)


def test_none_never_asks(alice, stale, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "REAUTHENTICATE": None}
    other, client = signed_in(alice), signed_in(alice)

    post(client, others="1")

    assert not is_signed_in(other)


class NewerHasher(MD5PasswordHasher):
    algorithm = "newer"


@pytest.mark.parametrize("choice", ["session", "others"])
def test_a_password_that_is_hashed_anew_signs_nobody_out_here(alice, stale, settings, choice):
    other, client = signed_in(alice), signed_in(alice)
    settings.PASSWORD_HASHERS = [f"{__name__}.NewerHasher", *settings.PASSWORD_HASHERS]
    data = {choice: id_of(other) if choice == "session" else "1"}

    post(client, **data, password=PASSWORD)

    alice.refresh_from_db()
    assert alice.password.startswith("newer$")
    assert not is_signed_in(other)
    assert client.get(PAGE).status_code == 200


@pytest.mark.parametrize("ended_by", ["a new password", "the site"])
def test_a_session_that_ends_meanwhile_does_not_go_on(
    alice, stale, settings, monkeypatch, ended_by
):
    def own_hash(user):
        return f"{user.password} {user.first_name}"

    is_new = ended_by == "a new password"
    given = "another" if is_new else PASSWORD
    change = {"password": make_password(given)} if is_new else {"first_name": "anew"}

    class Meanwhile(ModelBackend):
        def authenticate(self, request, **credentials):
            User.objects.update(**change)
            return super().authenticate(request, **credentials)

    monkeypatch.setattr(User, "get_session_auth_hash", own_hash)
    use_backend(settings, Meanwhile)
    other, client = signed_in(alice), signed_in(alice)

    post(client, others="1", password=given)

    assert not is_signed_in(other)
    assert client.get(PAGE).status_code == 302


def test_the_password_of_another_user_is_wrong(alice, stale, settings):
    class Lenient(ModelBackend):
        def authenticate(self, request, **credentials):
            return User.objects.get(username="bob")

    use_backend(settings, Lenient)
    User.objects.create_user("bob")
    other, client = signed_in(alice), signed_in(alice)

    response = client.post(PAGE, {"others": "1", "password": PASSWORD})

    assert b"not correct" in response.content
    assert is_signed_in(other)


def test_a_backend_that_refuses_attempts_is_obeyed(alice, stale, settings):
    class Throttle(ModelBackend):
        attempts = 0

        def authenticate(self, request, **credentials):
            assert request.path == PAGE
            type(self).attempts += 1
            if self.attempts > 2:
                raise PermissionDenied
            return super().authenticate(request, **credentials)

    use_backend(settings, Throttle)
    other, client = signed_in(alice), signed_in(alice)

    for password in ("one", "two", PASSWORD):
        response = client.post(PAGE, {"others": "1", "password": password})
        assert b"not correct" in response.content
    assert is_signed_in(other)


def test_who_has_no_password_signs_in_anew(alice, stale, settings):
    alice.set_unusable_password()
    alice.save()
    other, client = signed_in(alice), signed_in(alice)

    asked = client.post(PAGE, {"others": "1"})
    response = client.post(PAGE, {"again": "1"})

    assert b'type="password"' not in asked.content
    assert b"Sign in again" in asked.content
    assert response.url == SIGN_IN
    assert not is_signed_in(client)  # else the sign-in would not be a new one
    assert is_signed_in(other)


def test_the_password_is_left_out_of_error_reports(alice, stale, settings):
    settings.DEBUG = False
    client = signed_in(alice)

    request = client.post(PAGE, {"others": "1", "password": "wrong"}).wsgi_request

    shown = get_exception_reporter_filter(request).get_post_parameters(request)
    assert isinstance(shown, MultiValueDict)
    assert PASSWORD not in shown.values()
    assert "wrong" not in shown.values()


def test_no_password_and_no_hash_of_one_is_in_the_report_of_a_hasher_that_fails(
    alice, stale, settings, monkeypatch
):
    class Broken(ModelBackend):
        @sensitive_variables()
        def authenticate(self, request, **credentials):
            alice.password = make_password(PASSWORD)
            return alice

    def broken(*args):
        raise RuntimeError

    monkeypatch.setattr(views, "check_password", broken)
    use_backend(settings, Broken)
    settings.DEBUG = False
    client, before = signed_in(alice), alice.password

    with pytest.raises(RuntimeError) as raised:
        client.post(PAGE, {"others": "1", "password": PASSWORD})

    frames = ExceptionReporter(None, raised.type, raised.value, raised.tb).get_traceback_frames()
    [shown] = [str(each["vars"]) for each in frames if each["function"] == "_is_password_right"]
    for secret in (PASSWORD, before, alice.password):
        assert secret not in shown


# MongoDB and event loops


@pytest.mark.usefixtures("soon_told")
def test_while_mongodb_is_down_the_page_is_unavailable(alice, settings):
    client = signed_in(alice, raise_request_exception=False)
    clients.reset()
    settings.MONGO_SESSIONS = {"URI": "mongodb://127.0.0.1:9", "TIMEOUT": 0.2}

    assert client.get(PAGE).status_code == 503
    assert client.post(PAGE, {"others": "1"}).status_code == 503


@pytest.mark.parametrize("page", [AsyncSessionsView], indirect=True)
def test_an_event_loop_is_not_blocked(alice, monkeypatch, caplog):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)
    caplog.set_level(logging.DEBUG, "django_mongo_sessions")
    other, here = signed_in(alice), signed_in(alice)
    id = id_of(other)
    calls = []
    monkeypatch.setattr(users, "list_sessions", lambda *args, **kwargs: calls.append(args))
    monkeypatch.setattr(users, "revoke_session", lambda *args, **kwargs: calls.append(args))

    async def visit():
        client = AsyncClient()
        client.cookies = here.cookies
        shown = await client.get(PAGE)
        ended = await client.post(PAGE, {"session": id})
        return shown.status_code, ended.status_code

    assert async_to_sync(visit)() == (200, 302)  # its threads share this test's transaction
    assert not is_signed_in(other)
    assert calls == []
    assert not [each for each in caplog.messages if "blocks the running event loop" in each]
