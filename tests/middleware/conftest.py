"""Requests to a middleware in each kind of stack."""

import asyncio

import pytest

from django_mongo_sessions.connection import clients
from django_mongo_sessions.middleware import SessionMiddleware
from tests.conftest import end
from tests.middleware.helpers import answer


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    end(loop)


@pytest.fixture(params=["sync", "native", "threads"])
def form(request, mongod_engine, settings):
    """The kind of stack, on a real mongod."""
    if request.param != "sync":
        settings.MONGO_SESSIONS["ASYNC"] = request.param
    return request.param


@pytest.fixture
def ask(form, loop, settings):
    """`ask(steps, cookie)` sends a request, sync and async, and returns the response."""

    def ask(steps, cookie, cls=SessionMiddleware):
        _, response = answer(cls, form, loop, steps, cookie, settings)
        if isinstance(response, Exception):
            raise response
        return response

    return ask


@pytest.fixture
def hourly(settings, mongod_engine):
    settings.MONGO_SESSIONS["TOUCH_INTERVAL"] = 3600
