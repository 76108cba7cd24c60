"""What the tests of promises share."""

from dataclasses import replace

import pytest
from pymongo.errors import AutoReconnect

from django_mongo_sessions.connection import breaker
from django_mongo_sessions.mongo import operations

CUT = AutoReconnect("connection closed")


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
