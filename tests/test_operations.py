"""What replies mean, and how the drivers do the calls."""

import asyncio
import math

import pymongo
import pytest
from pymongo import _csot
from pymongo.errors import PyMongoError
from pymongo.results import DeleteResult, UpdateResult

from django_mongo_sessions import operations
from django_mongo_sessions.operations import Operation, arun, run


@pytest.mark.parametrize("count", [0, 1])
def test_a_write_answers_whether_it_found_what_it_named(count):
    update = operations.update(b"id", 0, {})
    delete = operations.delete(b"id")

    assert update.read(UpdateResult({"n": count}, True)) is bool(count)
    assert delete.read(DeleteResult({"n": count}, True)) is bool(count)


def drive(colour, verb, timeout):
    """Drive a verb whose operations need no server."""
    return run(verb, None, timeout) if colour == "sync" else asyncio.run(arun(verb, None, timeout))


def asking(colour, ask):
    """Return a verb of one operation that calls `ask`."""

    async def aask(sessions):
        return ask(sessions)

    def verb():
        return (yield Operation(ask if colour == "sync" else aask, lambda reply: reply))

    return verb()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_each_call_has_its_deadline(colour):
    left = drive(colour, asking(colour, lambda sessions: _csot.remaining()), 7)

    assert 0 < left <= 7
    assert _csot.remaining() is None


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("timeout", [None, 7])
def test_a_limit_that_the_caller_has_set_is_never_lifted(colour, timeout):
    with pymongo.timeout(1):
        left = drive(colour, asking(colour, lambda sessions: _csot.remaining()), timeout)

    assert left < 1 < math.inf


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_error_is_thrown_into_the_verb_and_through_it(colour):
    def fail(sessions):
        raise PyMongoError("away")

    with pytest.raises(PyMongoError, match="away"):
        drive(colour, asking(colour, fail), None)
