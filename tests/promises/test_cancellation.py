"""A task is cancelled at any of its awaits: the browser's cookie still opens its session."""

import asyncio
from contextlib import suppress

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions import middleware as djangos
from django.http import HttpResponse
from django.test import RequestFactory
from pymongo import _csot

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.mongo import indexes
from tests.conftest import collection
from tests.promises.scheduler import MODES

pytestmark = pytest.mark.untraced

DATA = {SESSION_KEY: "7", "cart": [1]}


async def cycle(session):
    await session.acycle_key()


async def create(session):
    await session._aget_session()
    await session.acreate()


async def save_first(session):
    session.update(DATA)
    await session.asave()


async def mutate_first(session):
    await session.amutate(lambda data: data.update(DATA))


async def mutate(session):
    await session.amutate(lambda data: data.update(seen=1))


async def log_in(session):
    """Do what Django's login() does, and save at once."""
    await session.acycle_key()
    session["backend"] = "b"
    await session.asave()


FIRST = [save_first, mutate_first]
VERBS = [cycle, create, mutate, log_in, *FIRST]
KINDS = [SessionMiddleware, djangos.SessionMiddleware]


def stored_key():
    session = SessionStore()
    session.update(DATA)
    session.save()
    return session.session_key


def opens(key):
    """Return whether a browser with that key has its session. It may have had none."""
    if key is None:
        return True
    data = SessionStore(key).load()
    return all(data.get(name) == value for name, value in DATA.items())


def answer(scheduler, kind, verb, key, steps, status):
    """Answer a request whose view gives up its verb after so many steps, and copes.

    Returns the session, the response, and whether the verb was given up.
    """
    verbs = []

    async def view(page):
        verbs.append(asyncio.ensure_future(verb(page.session)))
        with suppress(asyncio.CancelledError):
            await verbs[0]
        assert _csot.get_timeout() is None  # or it would end every later call of PyMongo's
        return HttpResponse(status=status)

    page = RequestFactory().get("/")
    if key:
        page.COOKIES["sessionid"] = key
    request = scheduler.start(kind(view)(page))
    while not verbs:
        scheduler.settle()
    scheduler.settle()  # the verb may not have begun
    for _ in range(steps):
        scheduler.step(request)
    was_cancelled = verbs[0].cancel()
    [response] = scheduler.finish(request)
    return page.session, response, was_cancelled


@pytest.fixture
def no_index(engine, monkeypatch):
    """As in a new process, on a collection without an index."""
    monkeypatch.setattr(indexes, "_ensured", set())


def each_await(mode, kind, verb, status):
    """Yield what comes of a request whose verb is cancelled at its first await, and so on."""
    steps, was_cancelled = 0, True
    while was_cancelled:
        collection().delete_many({})
        collection().drop_indexes()
        key = None if verb in FIRST else stored_key()
        indexes._ensured.clear()
        with mode() as scheduler:
            session, response, was_cancelled = answer(scheduler, kind, verb, key, steps, status)
        cookie = response.cookies.get("sessionid")
        yield key, cookie and cookie.value, session, was_cancelled
        steps += 1
    assert steps > 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_the_browsers_key_opens_its_session_whatever_is_cancelled(no_index, mode, kind, verb):
    for old, new, session, _ in each_await(mode, kind, verb, 200):
        assert opens(new or old)
        assert new or verb is not save_first
        assert new or old is None or SessionStore(old).load() == DATA  # else it has a new expiry
        assert session.session_key in (new, old)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("verb", VERBS)
def test_it_does_if_the_view_answers_with_an_error(no_index, mode, verb):
    for old, new, *_ in each_await(mode, SessionMiddleware, verb, 503):
        assert opens(new or old)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("verb", [cycle, create, mutate])
def test_with_djangos_middleware_the_old_key_does_until_the_last_write_is_sent(
    no_index, mode, verb
):
    """It sets no cookie then."""
    for old, new, session, was_cancelled in each_await(mode, djangos.SessionMiddleware, verb, 503):
        assert new is None
        assert opens(old) or session._known.unfinished_move or not was_cancelled
