"""Subclasses of the middleware, and of the store behind it."""

import asyncio

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpResponse

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from tests.conftest import count_sessions
from tests.middleware.helpers import COOKIE, Elsewhere, a, add, stored_key


class Renaming(SessionMiddleware):
    """A subclass as a project might write it for Django's middleware."""

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
    """Its save() raises what a project's serializer might raise."""

    def save(self, must_create=False):
        raise TypeError("no such thing can be stored")

    async def asave(self, must_create=False):
        self.save()


class Answering(SessionMiddleware):
    """Rejects every request."""

    def process_request(self, request):
        super().process_request(request)
        return HttpResponse(status=403)


def test_a_subclass_may_return_a_response_of_its_own(ask):
    assert ask(["_get_session"], None, cls=Answering).status_code == 403


class Slow(SessionStore):
    """Is slow after a save, and notes what was called. It does not override asave()."""

    calls = []

    def save(self, must_create=False):
        super().save(must_create)
        self.calls.append("save")
        self._known.last_write -= 2  # seconds


def test_a_project_may_override_only_save_which_may_be_slow(ask):
    Slow.calls.clear()

    blocking = Elsewhere(lambda session: None)  # without an async form, it runs in a thread
    response = ask([a(Slow), "_get_session", add, blocking], None)

    assert Slow.calls == ["save", "save"]  # create() calls it again, as Django's does
    assert response.cookies[COOKIE].value
    assert count_sessions() == 1


def test_process_response_may_be_called_twice(ask, mongod_engine):
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


def test_an_error_of_a_save_is_raised_without_context(ask):
    with pytest.raises(TypeError, match="no such thing") as raised:
        ask([a(Failing), "_get_session", add], stored_key())

    assert raised.value.__context__ is None


class Aged(SessionStore):
    """Looks up the age elsewhere, which must not block an event loop."""

    def get_expiry_age(self):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return 60


def test_the_age_of_a_subclass_is_the_cookies(ask):
    blocking = Elsewhere(lambda session: None)

    response = ask([a(Aged), "_get_session", add, blocking], stored_key())

    assert response.cookies[COOKIE]["max-age"] == 60
