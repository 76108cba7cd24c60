"""A request with two sessions, each with a cookie of its own."""

from contextlib import contextmanager

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.backends import signed_cookies
from django.http import HttpResponse
from django.test import RequestFactory

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from tests.conftest import collection, count_sessions
from tests.middleware.helpers import COOKIE, KEY, no_blocking_client, stored_key

SECOND = "second"


class Second(SessionMiddleware):
    """Keeps a session of its own, as for SAML or for the admin, and renames its cookie."""

    def process_request(self, request):
        request.second = self.SessionStore(request.COOKIES.get(SECOND))

    def process_response(self, request, response):
        first, request.session = request.session, request.second
        try:
            response = self.respond(request, response)
        finally:
            request.session = first
        return response

    def respond(self, request, response):
        response = super().process_response(request, response)
        if COOKIE in response.cookies:
            renamed = response.cookies.pop(COOKIE)
            response.set_cookie(SECOND, renamed.value, max_age=renamed["max-age"])
        return response


@contextmanager
def swapped(**names):
    """Change Django's settings for a moment, as middleware does that cannot pass them on."""
    before = {name: getattr(django_settings, name) for name in names}
    for name, value in names.items():
        setattr(django_settings, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(django_settings, name, value)


class Named(Second):
    """Lets Django's code use another name, path and age."""

    age = 14 * 24 * 3600

    def respond(self, request, response):
        names = {"SESSION_COOKIE_NAME": SECOND, "SESSION_COOKIE_PATH": "/admin/"}
        with swapped(**names, SESSION_COOKIE_AGE=self.age):
            return SessionMiddleware.process_response(self, request, response)


class Twice(SessionMiddleware):
    """Serves both sessions by itself."""

    def process_request(self, request):
        super().process_request(request)
        request.second = self.SessionStore(request.COOKIES.get(SECOND))

    def process_response(self, request, response):
        response = super().process_response(request, response)
        site = response.cookies.pop(COOKIE, None)
        first, request.session = request.session, request.second
        try:
            response = super().process_response(request, response)
        finally:
            request.session = first
        if COOKIE in response.cookies:
            response.set_cookie(SECOND, response.cookies.pop(COOKIE).value)
        if site is not None:
            response.cookies[COOKIE] = site
        return response


STACKS = {
    "renamed after": [SessionMiddleware, Second],
    "settings swapped": [SessionMiddleware, Named],
    "one class for both": [Twice],
}


@pytest.fixture
def respond(form, loop):
    """`respond(stack, view, cookies)` returns the cookies of the response.

    The view is a function of the request, or names what it sets in each session.
    """

    def respond(stack, view, cookies=(), may_block=False):
        def sync_view(request):
            for name, data in changes(view, request).items():
                getattr(request, name).update(data)
            return HttpResponse()

        async def async_view(request):
            for name, data in changes(view, request).items():
                session = getattr(request, name)
                if isinstance(session, SessionStore):  # on Django 4.2, no other is asynchronous
                    await session._aget_session()
                session.update(data)
            return HttpResponse()

        request = RequestFactory().get("/")
        request.COOKIES.update(cookies)
        handler = sync_view if form == "sync" else async_view
        for kind in reversed(stack):
            handler = kind(handler)
        if form == "sync":
            response = handler(request)
        elif form == "threads" or may_block:
            response = loop.run_until_complete(handler(request))
        else:
            with no_blocking_client():
                response = loop.run_until_complete(handler(request))
        return {name: morsel.value for name, morsel in response.cookies.items()}

    return respond


def changes(view, request):
    return view if isinstance(view, dict) else view(request)


def held(key):
    return SessionStore(key).load()


@pytest.mark.parametrize("stack", STACKS)
def test_each_is_saved_and_gets_its_own_cookie(respond, stack):
    cookies = respond(STACKS[stack], {"session": {"site": 1}, "second": {"saml": 2}})

    assert {name: held(key) for name, key in cookies.items()} == {
        COOKIE: {"site": 1},
        SECOND: {"saml": 2},
    }


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(("changed", "cookie"), [("session", COOKIE), ("second", SECOND)])
def test_the_one_that_is_not_changed_is_left_alone(respond, stack, changed, cookie):
    keys = {COOKIE: stored_key(), SECOND: stored_key()}

    cookies = respond(STACKS[stack], {changed: {"b": 2}}, keys)

    assert cookies == {cookie: keys[cookie]}
    assert held(keys.pop(cookie)) == {"a": 1, "b": 2}
    assert [held(key) for key in keys.values()] == [{"a": 1}]


@pytest.mark.parametrize("stack", STACKS)
def test_the_stale_cookie_of_one_is_deleted_and_the_other_stays(respond, stack):
    key = stored_key()

    cookies = respond(STACKS[stack], {"session": {"b": 2}}, {COOKIE: key, SECOND: KEY})

    assert cookies[COOKIE] == key
    assert held(key) == {"a": 1, "b": 2}
    assert count_sessions() == 1


def test_a_session_that_the_view_has_put_in_its_place_is_saved(respond):
    def view(request):
        request.session = SessionStore()
        return {"session": {"new": 1}}

    key = stored_key()

    cookies = respond([SessionMiddleware], view, {COOKIE: key})

    assert cookies[COOKIE] != key
    assert held(cookies[COOKIE]) == {"new": 1}
    assert held(key) == {"a": 1}


def test_what_is_stored_between_two_answers_for_one_session_is_saved(respond):
    class Late(SessionMiddleware):
        def process_response(self, request, response):
            response = super().process_response(request, response)
            request.session["late"] = True
            return super().process_response(request, response)

    cookies = respond([Late], {"session": {"a": 1}})

    assert held(cookies[COOKIE]) == {"a": 1, "late": True}


# What an event loop leaves to a thread, as Django's middleware does.


def test_a_session_lasts_as_long_as_the_settings_around_it_say(respond):
    class Short(Named):
        age = 600

    cookies = respond([SessionMiddleware, Short], {"second": {"saml": 2}}, may_block=True)

    [document] = collection().find()
    assert (document["expires_at"] - document["seen_at"]).total_seconds() == 600
    assert held(cookies[SECOND]) == {"saml": 2}


def test_the_second_may_be_one_of_another_engine(respond):
    class Foreign(Second):
        def __init__(self, get_response):
            super().__init__(get_response)
            self.SessionStore = signed_cookies.SessionStore

    view = {"session": {"site": 1}, "second": {"saml": 2}}

    cookies = respond([SessionMiddleware, Foreign], view, may_block=True)

    assert held(cookies[COOKIE]) == {"site": 1}
    assert signed_cookies.SessionStore(cookies[SECOND]).load() == {"saml": 2}


def test_the_second_may_be_made_at_the_end(respond):
    class Made(Second):
        def process_response(self, request, response):
            request.second = self.SessionStore()
            request.second["made"] = 1
            return super().process_response(request, response)

    cookies = respond([SessionMiddleware, Made], {"session": {"site": 1}}, may_block=True)

    assert held(cookies[COOKIE]) == {"site": 1}
    assert held(cookies[SECOND]) == {"made": 1}
