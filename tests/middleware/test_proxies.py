"""A session behind a proxy, as other middleware may leave it in the request."""

from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends import signed_cookies
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject, empty
from pymongo.errors import AutoReconnect

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware import SessionMiddleware
from tests.conftest import count_sessions
from tests.middleware.helpers import COOKIE, Elsewhere, a, add, age, no_blocking_client, stored_key


class Proxy:
    """Passes everything on, and says that it is what it stands for, as those of wrapt do."""

    def __init__(self, wrapped):
        vars(self)["wrapped"] = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def __setattr__(self, name, value):
        setattr(self.wrapped, name, value)

    @property
    def __class__(self):
        return self.wrapped.__class__

    def __setitem__(self, key, value):
        self.wrapped[key] = value


def lazy(session):
    return SimpleLazyObject(lambda: session)


class Audited(Proxy):
    """Has a blocking save of its own."""

    saves = []

    def save(self, *args, **kwargs):
        self.saves.append("save")
        self.wrapped.save(*args, **kwargs)


PROXIES = {
    "lazy": lazy,
    "eager": Proxy,
    "lazy twice": lambda session: lazy(lazy(session)),
    "of a proxy": lambda session: lazy(Proxy(session)),
}


def wrapping(proxy):
    """Return a middleware class that is used as ours, with the session behind a proxy."""

    class Wrapping(SessionMiddleware):
        def process_request(self, request):
            super().process_request(request)
            request.session = proxy(request.session)

    return Wrapping


@pytest.fixture(params=PROXIES)
def wrapped(request):
    return wrapping(PROXIES[request.param])


def test_a_session_behind_a_proxy_is_saved(ask, wrapped):
    key = stored_key()

    response = ask(["_get_session", add], key, cls=wrapped)

    assert response.status_code == 200
    assert response.cookies[COOKIE].value == key
    assert SessionStore(key).load() == {"a": 1, "b": 2}


def test_one_that_is_only_read_is_touched(ask, hourly, wrapped):

    key = stored_key()
    age(3601)

    assert ask(["_get_session"], key, cls=wrapped).cookies[COOKIE].value == key


def test_a_proxy_may_have_a_save_of_its_own(ask):
    Audited.saves.clear()

    in_a_thread = Elsewhere(lambda session: None)
    response = ask(["_get_session", add, in_a_thread], stored_key(), cls=wrapping(Audited))

    assert Audited.saves == ["save"]
    assert response.cookies[COOKIE].value


def test_it_may_stand_for_a_subclass_with_one(ask):
    class Counting(SessionStore):
        saves = []

        def save(self, must_create=False):
            self.saves.append("save")
            super().save(must_create)

    key = stored_key()

    in_a_thread = Elsewhere(lambda session: None)
    ask([a(Counting), "_get_session", add, in_a_thread], key, cls=wrapping(lazy))

    assert Counting.saves == ["save"]
    assert SessionStore(key).load() == {"a": 1, "b": 2}


@pytest.mark.parametrize("proxy", [lazy, Proxy])
def test_one_of_another_engine_stays_one(ask, proxy):
    foreign = wrapping(lambda session: proxy(signed_cookies.SessionStore()))

    in_a_thread = Elsewhere(lambda session: None)
    response = ask([add, in_a_thread], None, cls=foreign)

    assert signed_cookies.SessionStore(response.cookies[COOKIE].value).load() == {"b": 2}
    assert count_sessions() == 0


# A lazy session that nothing has used yet


def test_a_lazy_session_that_is_not_used_is_evaluated_in_a_thread(ask):

    async def nothing():
        pass

    def evaluate(session):
        async_to_sync(nothing)()  # fails in the thread of a running loop
        return session

    def proxy(session):
        return SimpleLazyObject(partial(evaluate, session))

    assert not ask([], stored_key(), cls=wrapping(proxy)).cookies


def test_an_error_of_a_view_does_not_evaluate_it(form, loop):
    class Made(SessionMiddleware):
        def __init__(self, get_response):
            super().__init__(get_response)
            self.SessionStore = lambda key: SimpleLazyObject(lambda: SessionStore(key))

    def fail(request):
        raise AutoReconnect("a project's own")

    async def afail(request):
        fail(request)

    request = RequestFactory().get("/")
    stack = Made(fail if form == "sync" else afail)

    def respond():
        return stack(request) if form == "sync" else loop.run_until_complete(stack(request))

    with pytest.raises(AutoReconnect) as raised:
        respond()
    stack.process_exception(request, raised.value)

    assert request.session._wrapped is empty


def test_a_lazy_second_session_is_evaluated_in_a_thread_too(form, loop):
    class Second(SessionMiddleware):
        def process_request(self, request):
            super().process_request(request)
            request.second = lazy(SessionStore())

        def process_response(self, request, response):
            first, request.session = request.session, request.second
            try:
                response = super().process_response(request, response)
            finally:
                request.session = first
            return response

    async def view(request):
        return HttpResponse()

    request = RequestFactory().get("/")
    if form == "sync":
        Second(lambda request: HttpResponse())(request)
    else:
        with no_blocking_client():
            loop.run_until_complete(Second(view)(request))

    assert request.second._wrapped is not empty
