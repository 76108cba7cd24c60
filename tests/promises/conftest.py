"""What the tests of promises share."""

import asyncio
from dataclasses import replace

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from pymongo.errors import AutoReconnect

from django_mongo_sessions.connection import breaker, clients
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.mongo import coalescing, operations
from tests.conftest import collection, end
from tests.promises.company import Company
from tests.promises.scheduler import MODES

CUT = AutoReconnect("connection closed")


@pytest.fixture(params=MODES)
def scheduler(request, engine):
    """An event loop whose server replies when the test says so."""
    with request.param() as scheduler:
        yield scheduler


@pytest.fixture
def company(engine, monkeypatch):
    """Other operations, with which each of ours goes out."""
    company = Company(collection())
    monkeypatch.setattr(coalescing, "_queue", company.queue)
    return company


@pytest.fixture
def lose(monkeypatch):
    """`lose("insert", how, error)` lets the first call of that kind be `unheard` or `undone`."""
    monkeypatch.setattr(breaker, "PROBE_INTERVAL", 0)  # the next call is let through

    def lose(name, how, error=CUT):
        real = getattr(operations, name)
        lost = []

        def made(*args, **kwargs):
            operation = real(*args, **kwargs)

            def call(sessions):
                if lost:
                    return operation.call(sessions)
                lost.append(how(operation, error))
                return lost[0].call(sessions)

            return replace(operation, call=call)

        monkeypatch.setattr(operations, name, made)

    return lose


@pytest.fixture
def before(monkeypatch):
    """`before("confirm", function)` calls the function before the first call of that kind."""

    def before(name, function):
        real, calls = getattr(operations, name), []

        def made(*args):
            operation = real(*args)

            def call(target):
                if not calls:
                    calls.append(operation)
                    function()
                return operation.call(target)

            return replace(operation, call=call)

        monkeypatch.setattr(operations, name, made)

    return before


@pytest.fixture(params=["sync", "native", "threads"])
def visit(request, mongod_engine, monkeypatch):
    """`visit(view, key)` answers a browser with that key, and returns the response.

    The view calls the session's verbs: `await call("save")`. It returns the status.
    """
    age = 0 if request.param == "native" else float("inf")
    monkeypatch.setattr(clients, "PROMOTION_AGE", age)
    loop = asyncio.new_event_loop()

    def visit(view, key, middleware=SessionMiddleware):
        def get_response(page):
            async def call(verb, *args):
                return getattr(page.session, verb)(*args)

            try:
                view(call).send(None)  # once, since nothing in it suspends
            except StopIteration as stop:
                return HttpResponse(status=stop.value)

        async def aget_response(page):
            return HttpResponse(
                status=await view(lambda verb, *args: getattr(page.session, f"a{verb}")(*args))
            )

        page = RequestFactory().get("/")
        page.COOKIES["sessionid"] = key
        if request.param == "sync":
            return middleware(get_response)(page)
        return loop.run_until_complete(middleware(aget_response)(page))

    yield visit
    end(loop)
