"""Requests through the middleware: what views do, and what browsers send."""

from contextlib import contextmanager
from datetime import timedelta

from asgiref.sync import iscoroutinefunction
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpResponse
from django.test import RequestFactory

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.storage import dates
from tests.conftest import SESSIONS, collection

KEY = "0123456789abcdefghijklmnopqrstuv"
COOKIE = "sessionid"


# What views do to a session: verbs, awaited in an asynchronous view, and functions of it.


def add(session):
    session["b"] = 2


def drop_all(session):
    for key in list(session.keys()):
        del session[key]


class Elsewhere:
    """What another process does in the meantime, with blocking calls."""

    def __init__(self, function):
        self.function = function

    def __call__(self, session):
        self.function(session)


delete_elsewhere = Elsewhere(lambda session: collection().delete_many({}))


def a(kind):
    """Give the request a session of a project's own class."""
    return lambda session: setattr(session, "__class__", kind)


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


# Requests


def stored_key():
    session = SessionStore()
    session["a"] = 1
    session.save()
    return session.session_key


def refused_key():
    key = stored_key()
    collection().update_many({}, {"$set": {"payload": b"\1forged"}})
    return key


@contextmanager
def no_blocking_client():
    """Fail if the blocking client is used, which must not happen in an event loop."""

    def refuse():
        raise AssertionError("a blocking call in the event loop")

    reach, clients.collection = clients.collection, refuse
    try:
        yield
    finally:
        clients.collection = reach


def answer(cls, form, loop, steps, cookie, settings):
    """Serve a request, and return the request and the response, or the error that was raised."""
    request = RequestFactory().get("/")
    if cookie is not None:
        request.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
    try:
        if form == "sync":
            return request, cls(synchronous(steps))(request)
        stack = cls(asynchronous(steps))
        assert iscoroutinefunction(stack)
        if form == "threads" or any(isinstance(step, Elsewhere) for step in steps):
            return request, loop.run_until_complete(stack(request))
        with no_blocking_client():
            return request, loop.run_until_complete(stack(request))
    except SessionInterrupted as error:
        return request, error


# What is stored


def document():
    [stored] = collection().find(SESSIONS)
    return stored


def age(seconds):
    """Change all sessions as if they had been written that many seconds ago."""
    moment = dates.utc_now() - timedelta(seconds=seconds)
    expires_at = moment + timedelta(days=14)
    collection().update_many({}, {"$set": {"seen_at": moment, "expires_at": expires_at}})
