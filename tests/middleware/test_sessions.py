"""What becomes of session and cookie at the end of a request: as with Django's middleware."""

import asyncio
import itertools
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.sessions import middleware
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.serializers import JSONSerializer
from django.http import HttpResponse
from django.test import RequestFactory

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.storage import dates
from tests.conftest import collection, end

KEY = "0123456789abcdefghijklmnopqrstuv"
COOKIE = "sessionid"


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)


class Forgetful(JSONSerializer):
    """Never makes the same bytes of the same data."""

    counter = itertools.count()

    def dumps(self, obj):
        return super().dumps({**obj, "_count": next(self.counter)})


# What views do to a session: verbs, awaited in an asynchronous view, and functions of it.


def add(session):
    session["b"] = 2


def drop_all(session):
    for key in list(session.keys()):
        del session[key]


class Elsewhere:
    """What another process does meanwhile, with blocking calls."""

    def __init__(self, function):
        self.function = function

    def __call__(self, session):
        self.function(session)


delete_elsewhere = Elsewhere(lambda session: collection().delete_many({}))


def a(kind):
    """Let the session be of a project's own class."""
    return lambda session: setattr(session, "__class__", kind)


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


def stored_key():
    session = SessionStore()
    session["a"] = 1
    session.save()
    return session.session_key


def expired_key():
    key = stored_key()
    collection().update_many({}, {"$set": {"expires_at": dates.utc_now()}})
    return key


def refused_key():
    key = stored_key()
    collection().update_many({}, {"$set": {"payload": b"\1forged"}})
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


def synchronous(steps):
    def view(request):
        status = 200
        for step in steps:
            if isinstance(step, (str, tuple)):
                verb, *arguments = [step] if isinstance(step, str) else step
                getattr(request.session, verb)(*arguments)
            elif isinstance(step, int):
                status = step
            else:
                step(request.session)
        return HttpResponse(status=status)

    return view


def asynchronous(steps):
    async def view(request):
        status = 200
        for step in steps:
            if isinstance(step, (str, tuple)):
                verb, *arguments = [step] if isinstance(step, str) else step
                twin = f"_a{verb[1:]}" if verb.startswith("_") else f"a{verb}"
                await getattr(request.session, twin)(*arguments)
            elif isinstance(step, int):
                status = step
            else:
                step(request.session)
        return HttpResponse(status=status)

    return view


@contextmanager
def no_blocking_client():
    """Let the blocking client be out of reach, as it has to be in an event loop."""

    def refuse():
        raise AssertionError("a blocking call in the event loop")

    reach, clients.collection = clients.collection, refuse
    try:
        yield
    finally:
        clients.collection = reach


def answer(cls, colour, loop, steps, cookie, settings):
    """Answer a request, and return the request and the response, or what was raised."""
    request = RequestFactory().get("/")
    if cookie is not None:
        request.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
    try:
        if colour == "sync":
            return request, cls(synchronous(steps))(request)
        stack = cls(asynchronous(steps))
        assert iscoroutinefunction(stack)
        if colour == "threads" or any(isinstance(step, Elsewhere) for step in steps):
            return request, loop.run_until_complete(stack(request))
        with no_blocking_client():
            return request, loop.run_until_complete(stack(request))
    except SessionInterrupted as error:
        return request, error


def revision(document_id):
    document = collection().find_one({"_id": document_id})
    return document and document["revision"]


def outcome(cls, colour, loop, steps, make_cookie, settings):
    """Return all that is to be seen of a request: response, cookie, headers and documents."""
    collection().delete_many({})
    cookie = make_cookie()  # of the same key each time
    before = collection().find_one({})
    request, response = answer(cls, colour, loop, steps, cookie, settings)
    session = request.session
    seen = {
        "documents": collection().count_documents({}),
        "old revision": before and revision(before["_id"]),
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
    """Return what Django's middleware answers, but for what this one does better."""
    expected = dict(djangos)
    is_set = expected.get("cookies", {}).get(name, {}).get("value")
    if cookie == "refused" and is_set and expected["key"] == "kept":
        # The document was left alone, and so is the cookie.
        return {**expected, "cookies": {}}
    if cookie in ("stale", "junk", "expired") and is_set and view in ("nothing", "says modified"):
        # An empty session is not begun for whoever sends a cookie of none.
        expected["documents"] -= 1
        expected["key"] = None
        expected["cookies"] = {name: {**expected["cookies"][name], **DELETED}}
    if is_set:
        expected["vary"] = "Cookie"
    return expected


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    end(loop)


@pytest.mark.parametrize("given", SETTINGS)
@pytest.mark.parametrize("cookie", COOKIES)
@pytest.mark.parametrize("colour", ["sync", "native"])
def test_it_answers_as_djangos_does(mongod_engine, native, loop, settings, colour, cookie, given):
    for name, value in SETTINGS[given].items():
        setattr(settings, name, value)

    for view, steps in VIEWS.items():
        djangos = outcome(
            *(middleware.SessionMiddleware, "sync", loop, steps, COOKIES[cookie], settings)
        )
        expected = as_here(djangos, view, cookie, settings.SESSION_COOKIE_NAME)

        ours = outcome(SessionMiddleware, colour, loop, steps, COOKIES[cookie], settings)

        assert ours == expected, view


# Of its own


@pytest.fixture(params=["sync", "native", "threads"])
def ask(request, mongod_engine, loop, settings):
    """`ask(steps, cookie)` answers a request in every colour."""
    if request.param != "sync":
        settings.MONGO_SESSIONS["ASYNC"] = request.param

    def ask(steps, cookie, cls=SessionMiddleware):
        _, response = answer(cls, request.param, loop, steps, cookie, settings)
        if isinstance(response, Exception):
            raise response
        return response

    return ask


def document():
    [stored] = collection().find({})
    return stored


def age(seconds):
    """Let all sessions have been written that many seconds ago."""
    moment = dates.utc_now() - timedelta(seconds=seconds)
    expires_at = moment + timedelta(days=14)
    collection().update_many({}, {"$set": {"seen_at": moment, "expires_at": expires_at}})


@pytest.fixture
def hourly(settings, mongod_engine):
    settings.MONGO_SESSIONS["TOUCH_INTERVAL"] = 3600


def test_a_session_that_is_read_is_touched_once_an_interval(ask, hourly):
    key = stored_key()
    age(3601)
    before = document()

    response = ask(["_get_session"], key)

    after = document()
    assert after["seen_at"] > before["seen_at"]
    assert after["expires_at"] == after["seen_at"] + timedelta(days=14)
    assert {**after, "seen_at": 0, "expires_at": 0} == {**before, "seen_at": 0, "expires_at": 0}
    assert response.cookies[COOKIE].value == key
    assert response.cookies[COOKIE]["max-age"] == 14 * 24 * 3600
    assert response.headers["Vary"] == "Cookie"

    response = ask(["_get_session"], key)

    assert document() == after
    assert not response.cookies


@pytest.mark.parametrize("steps", [[], [503], ["_get_session", 503]])
def test_one_that_is_not_read_or_whose_view_fails_is_not_touched(ask, hourly, steps):
    key = stored_key()
    age(3601)
    before = document()

    response = ask(steps, key)

    assert document() == before
    assert not response.cookies


def test_without_an_interval_nothing_is_touched(ask):
    key = stored_key()
    age(3601)

    assert not ask(["_get_session"], key).cookies


def test_one_that_cannot_be_opened_is_not_touched(ask, hourly):
    key = refused_key()
    age(3601)
    before = document()

    response = ask(["_get_session"], key)

    assert document() == before
    assert not response.cookies


def test_a_session_that_is_gone_has_no_cookie_and_the_page_is_answered(ask, hourly):
    # A login in another tab has deleted it, and given the browser another cookie.
    key = stored_key()
    age(3601)

    response = ask(["_get_session", delete_elsewhere], key)

    assert response.status_code == 200
    assert not response.cookies
    assert collection().count_documents({}) == 0


def test_one_that_somebody_else_has_written_to_is_left_as_it_is(ask, hourly):
    key = stored_key()
    age(3601)

    def set_expiry_elsewhere(session):
        other = SessionStore(key)
        other.set_expiry(60)
        other.save()

    response = ask(["_get_session", Elsewhere(set_expiry_elsewhere)], key)

    assert not response.cookies
    assert document()["expires_at"] <= dates.utc_now() + timedelta(seconds=60)


def test_a_touch_stores_nothing_that_was_not_said_to_be_modified(ask, hourly):
    key = stored_key()
    session = SessionStore(key)
    session["cart"] = []
    session.save()
    age(3601)

    ask(["_get_session", lambda session: session._session_cache["cart"].append(1)], key)

    assert SessionStore(key).load() == {"a": 1, "cart": []}
    assert document()["revision"] == 1


def test_a_touch_seals_what_a_fallback_has_opened_anew(ask, hourly, settings):
    key = stored_key()
    age(3601)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    ask(["_get_session"], key)

    settings.SECRET_KEY_FALLBACKS = []
    assert SessionStore(key).load() == {"a": 1}


def test_a_touch_that_seals_anew_derives_its_fields_from_what_is_stored(ask, hourly, settings):
    class Extended(SessionStore):
        def to_document(self, data):
            return {"a": data["a"]}

    key = stored_key()
    age(3601)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    def forget_to_say(session):
        session._session_cache["a"] = 2

    ask([a(Extended), "_get_session", forget_to_say], key)

    assert document()["revision"] == 1
    assert document()["a"] == 1


@pytest.fixture
def refusing(mongod_engine):
    """`refusing()` lets the server refuse what is written from then on."""

    def change(validator):
        sessions = collection()
        sessions.database.command("collMod", sessions.name, validator=validator)

    yield lambda: change({"none": "such"})
    change({})


def test_a_page_that_was_read_is_answered_though_the_touch_fails(ask, hourly, logged, refusing):
    key = stored_key()
    age(3601)
    before = document()

    refusing()

    response = ask(["_get_session"], key)

    assert response.status_code == 200
    assert not response.cookies
    assert document() == before
    [record] = logged()
    assert record.levelname == "WARNING"
    assert "could not be moved" in record.getMessage()


def test_what_a_mutate_has_moved_the_cookie_follows(ask, hourly):
    key = stored_key()
    age(3601)

    response = ask([("mutate", lambda data: data.update(a=2))], key)

    assert SessionStore(key).load() == {"a": 2}
    assert response.cookies[COOKIE].value == key


def test_a_save_of_the_views_does_not_put_the_touch_off(ask, hourly):
    key = stored_key()
    age(3601)

    response = ask(["_get_session", "save"], key)

    assert response.cookies[COOKIE].value == key


def test_a_touch_takes_one_command(ask, hourly, commands):
    key = stored_key()
    age(3601)
    commands.names()

    ask(["_get_session"], key)

    assert [name for name in commands.names() if name != "endSessions"] == ["find", "update"]


def test_a_browser_length_session_stays_one(ask, hourly, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    key = stored_key()
    age(3601)

    response = ask(["_get_session"], key)

    assert response.cookies[COOKIE].value == key
    assert response.cookies[COOKIE]["max-age"] == ""


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


# In its place


class Renaming(SessionMiddleware):
    """As a project might derive from Django's."""

    def process_request(self, request):
        super().process_request(request)
        request.began = True

    def process_response(self, request, response):
        assert isinstance(request.session, SessionStore)
        response = super().process_response(request, response)
        response.headers["X-Session"] = request.session.session_key
        return response


def test_a_subclass_may_change_what_is_done_before_and_after(ask):
    key = stored_key()

    response = ask(["_get_session", add], key, cls=Renaming)

    assert response.headers["X-Session"] == key
    assert response.cookies[COOKIE].value == key


class Failing(SessionStore):
    """Its save raises what the serializer of a project might."""

    def save(self, must_create=False):
        raise TypeError("no such thing can be stored")

    async def asave(self, must_create=False):
        self.save()


class Answering(SessionMiddleware):
    """Lets nobody in."""

    def process_request(self, request):
        super().process_request(request)
        return HttpResponse(status=403)


def test_a_subclass_may_answer_by_itself(ask):
    assert ask(["_get_session"], None, cls=Answering).status_code == 403


class Slow(SessionStore):
    """Takes its time after a save, and says what was called. It knows no twin."""

    calls = []

    def save(self, must_create=False):
        super().save(must_create)
        self.calls.append("save")
        self._known.last_write -= 2  # seconds


def test_a_project_may_override_save_alone_and_a_slow_one_is_no_less_a_save(ask):
    Slow.calls.clear()

    blocking = Elsewhere(lambda session: None)  # what has no twin runs in a thread
    response = ask([a(Slow), "_get_session", add, blocking], None)

    assert Slow.calls == ["save"]
    assert response.cookies[COOKIE].value
    assert collection().count_documents({}) == 1


def test_a_request_may_be_answered_twice(ask, mongod_engine):
    class Twice(SessionMiddleware):
        async def __acall__(self, request):
            response = await super().__acall__(request)
            request.session["late"] = True
            await sync_to_async(self.process_response)(request, response)
            return response

        def __call__(self, request):
            if iscoroutinefunction(self):
                return self.__acall__(request)
            response = super().__call__(request)
            request.session["late"] = True
            return self.process_response(request, response)

    key = stored_key()
    ask(["_get_session", Elsewhere(lambda session: None)], key, cls=Twice)

    assert SessionStore(key).load() == {"a": 1, "late": True}


def test_an_error_in_a_touch_is_raised_and_not_taken_for_a_missing_session(ask, hourly, settings):
    class Wrong(SessionStore):
        def to_document(self, data):
            raise AttributeError("a project's own")

    key = stored_key()
    age(3601)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    with pytest.raises(AttributeError, match="a project's own"):
        ask([a(Wrong), "_get_session"], key)


def test_what_a_save_raises_is_raised_alone(ask):
    with pytest.raises(TypeError, match="no such thing") as raised:
        ask([a(Failing), "_get_session", add], stored_key())

    assert raised.value.__context__ is None


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


@pytest.mark.parametrize("colour", ["sync", "native"])
def test_with_another_engine_it_is_djangos(settings, loop, colour):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    other = import_module(settings.SESSION_ENGINE).SessionStore

    request, response = answer(SessionMiddleware, colour, loop, [add], None, settings)

    assert isinstance(request.session, other)
    assert response.cookies[COOKIE].value
