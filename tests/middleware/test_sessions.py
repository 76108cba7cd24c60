"""What happens to session and cookie at the end of a request: as with Django's middleware."""

import itertools
from importlib import import_module

import pytest
from django.contrib.sessions import middleware
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.serializers import JSONSerializer
from django.http import HttpResponse
from django.test import RequestFactory

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection
from tests.middleware.helpers import (
    COOKIE,
    KEY,
    Elsewhere,
    add,
    answer,
    delete_elsewhere,
    drop_all,
    refused_key,
    stored_key,
)


class Forgetful(JSONSerializer):
    """Never returns the same bytes for the same data."""

    counter = itertools.count()

    def dumps(self, obj):
        return super().dumps({**obj, "_count": next(self.counter)})


VIEWS = {
    "nothing": [],
    "reads": ["_get_session"],
    "writes": ["_get_session", add],
    "saves": ["_get_session", add, "save"],
    "says modified": [lambda session: setattr(session, "modified", True)],
    "drops all": ["_get_session", drop_all],
    "clears": [lambda session: session.clear()],
    "clears and writes": [lambda session: session.clear(), add],
    "flushes": ["flush"],
    "flushes and writes": ["flush", add],
    "cycles": ["cycle_key"],
    "cycles and writes": ["cycle_key", add],
    "to the browser's end": ["_get_session", add, lambda session: session.set_expiry(0)],
    "for a minute": ["_get_session", add, lambda session: session.set_expiry(60)],
    "is overtaken by a deletion": ["_get_session", add, delete_elsewhere],
    "reads, and is overtaken by one": ["_get_session", delete_elsewhere],
    "fails": [500],
    "reads and fails": ["_get_session", 500],
    "writes and fails": ["_get_session", add, 503],
    "is not found": ["_get_session", add, 404],
}
SETTINGS = {
    "by default": {},
    "every request": {"SESSION_SAVE_EVERY_REQUEST": True},
    "browser": {"SESSION_EXPIRE_AT_BROWSER_CLOSE": True},
    "every request, browser": {
        "SESSION_SAVE_EVERY_REQUEST": True,
        "SESSION_EXPIRE_AT_BROWSER_CLOSE": True,
    },
    "attributes": {
        "SESSION_COOKIE_NAME": "s",
        "SESSION_COOKIE_DOMAIN": "example.com",
        "SESSION_COOKIE_PATH": "/app/",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": False,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_AGE": 600,
    },
    "every request, forgetful": {
        "SESSION_SAVE_EVERY_REQUEST": True,
        "SESSION_SERIALIZER": f"{__name__}.Forgetful",
    },
}


def expired_key():
    key = stored_key()
    collection().update_many({}, {"$set": {"expires_at": dates.utc_now()}})
    return key


COOKIES = {
    "none": lambda: None,
    "stored": stored_key,
    "stale": lambda: KEY,
    "junk": lambda: "x" * 20,
    "too short": lambda: "x",
    "expired": expired_key,
    "refused": refused_key,
}


def outcome(cls, form, loop, steps, make_cookie, settings):
    """Return everything visible about a request: response, cookie, headers and documents."""
    collection().delete_many({})
    cookie = make_cookie()  # of the same key each time
    request, response = answer(cls, form, loop, steps, cookie, settings)
    session = request.session
    revisions = {bytes(each["_id"]): each["revision"] for each in collection().find({})}
    seen = {
        "documents": sum(revision != -1 for revision in revisions.values()),
        "old revision": revisions.get(documents.document_id(cookie)),
        "data": {**SessionStore(session.session_key).load(), "_count": 0},
    }
    if isinstance(response, SessionInterrupted):
        return {**seen, "raised": str(response)}
    if response.status_code < 500:
        seen["key"] = session.session_key and ("kept" if session.session_key == cookie else "new")
    cookies = {name: dict(morsel) for name, morsel in response.cookies.items()}
    for name, morsel in cookies.items():
        value = response.cookies[name].value
        morsel["value"] = "key" if value and value == session.session_key else value
        morsel["expires"] = bool(morsel["expires"])
        morsel["max-age"] = morsel["max-age"] and round(morsel["max-age"], -1)
    return {
        **seen,
        "status": response.status_code,
        "cookies": cookies,
        "vary": response.headers.get("Vary"),
    }


DELETED = {
    "value": "",
    "expires": True,
    "max-age": 0,
    "secure": "",
    "httponly": "",
}


def as_here(djangos, view, cookie, name):
    """Return what Django's middleware does, apart from what this one does better."""
    expected = dict(djangos)
    is_set = expected.get("cookies", {}).get(name, {}).get("value")
    if cookie == "refused" and is_set and expected["key"] == "kept":
        # The document was left alone, and so is the cookie.
        return {**expected, "cookies": {}}
    if cookie in ("stale", "junk", "expired") and is_set and view in ("nothing", "says modified"):
        # A cookie of a session that does not exist begins no session.
        expected["documents"] -= 1
        expected["key"] = None
        expected["cookies"] = {name: {**expected["cookies"][name], **DELETED}}
    if is_set:
        expected["vary"] = "Cookie"
    return expected


# Whether a request is saved depends on its cookie. How the cookie is set does not, but for whether
# there is one, and whether there is a session to it.
EACH = [
    (given, cookie)
    for given in SETTINGS
    for cookie in COOKIES
    if given in ("by default", "every request") or cookie in ("none", "stored", "stale")
]


@pytest.mark.untraced
@pytest.mark.parametrize(("given", "cookie"), EACH)
def test_it_responds_as_djangos_middleware_does(
    mongod_engine, native, loop, settings, cookie, given
):
    for name, value in SETTINGS[given].items():
        setattr(settings, name, value)

    for view, steps in VIEWS.items():
        djangos = outcome(
            *(middleware.SessionMiddleware, "sync", loop, steps, COOKIES[cookie], settings)
        )
        expected = as_here(djangos, view, cookie, settings.SESSION_COOKIE_NAME)

        for form in ("sync", "native"):
            ours = outcome(SessionMiddleware, form, loop, steps, COOKIES[cookie], settings)

            assert ours == expected, (view, form)


def test_the_cookie_ends_with_the_session_at_its_absolute_age(ask, settings):
    settings.MONGO_SESSIONS["ABSOLUTE_AGE"] = 60

    response = ask(["_get_session", add], stored_key())

    assert 58 <= response.cookies[COOKIE]["max-age"] <= 60


def test_the_cookie_has_the_age_that_another_request_has_set(ask):
    key = stored_key()

    def set_expiry_elsewhere(session):
        other = SessionStore(key)
        other.set_expiry(60)
        other.save()

    response = ask(["_get_session", add, Elsewhere(set_expiry_elsewhere)], key)

    assert SessionStore(key).load()["b"] == 2
    assert 58 <= response.cookies[COOKIE]["max-age"] <= 60


def test_a_save_after_one_of_the_views_moves_the_expiry_if_sessions_last_longer(ask, settings):
    key = stored_key()

    def last_longer(session):
        settings.SESSION_COOKIE_AGE *= 2

    response = ask(["_get_session", add, "save", last_longer], key)

    document = collection().find_one()
    age = (document["expires_at"] - document["seen_at"]).total_seconds()
    assert age == response.cookies[COOKIE]["max-age"] == settings.SESSION_COOKIE_AGE


def test_the_cookie_of_a_document_that_does_not_open_stays(ask, settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True

    response = ask(["_get_session"], refused_key())

    assert not response.cookies


def remove_session(request):
    del request.session
    return HttpResponse()


async def aremove_session(request):
    return remove_session(request)


def test_without_a_session_the_response_goes_through(mongod_engine, native, loop):
    request = RequestFactory().get("/")

    assert SessionMiddleware(remove_session)(request).status_code == 200
    stack = SessionMiddleware(aremove_session)
    assert loop.run_until_complete(stack(request)).status_code == 200


@pytest.mark.parametrize("form", ["sync", "native"])
def test_with_another_engine_it_behaves_as_djangos(settings, loop, form):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    other = import_module(settings.SESSION_ENGINE).SessionStore

    request, response = answer(SessionMiddleware, form, loop, [add], None, settings)

    assert isinstance(request.session, other)
    assert response.cookies[COOKIE].value
