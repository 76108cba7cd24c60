"""How the drivers do the calls of a verb."""

import asyncio
import math
from contextlib import nullcontext

import pymongo
import pytest
from bson.errors import InvalidBSON
from pymongo import _csot
from pymongo.errors import PyMongoError

from django_mongo_sessions.drivers import PATIENCE, Gate, Operation, Reach, arun, run


def drive(colour, verb, timeout):
    """Drive a verb whose operations need no server."""
    reach = Reach(None, timeout)
    return run(verb, reach) if colour == "sync" else asyncio.run(arun(verb, reach))


def asking(colour, ask, patient=False):
    """Return a verb of one operation that calls `ask`."""

    async def aask(sessions):
        return ask(sessions)

    def verb():
        return (yield Operation(ask if colour == "sync" else aask, lambda reply: reply, patient))

    return verb()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_each_call_has_its_deadline(colour):
    left = drive(colour, asking(colour, lambda sessions: _csot.remaining()), 7)

    assert 0 < left <= 7
    assert _csot.remaining() is None


class Noting(Gate):
    """Notes what passes it."""

    def __init__(self):
        self.passed = []

    def enter(self, began):
        self.passed.append("enter")

    def leave(self, began, error=None):
        self.passed.append(error)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("error", "told"), [(None, None), (PyMongoError("away"), ...), (InvalidBSON("odd"), None)]
)
def test_a_gate_is_told_how_each_call_ended(colour, error, told):
    def ask(sessions):
        if error:
            raise error

    gate = Noting()
    verb, reach = asking(colour, ask), Reach(None, gate=gate)
    with pytest.raises(type(error)) if error else nullcontext():
        run(verb, reach) if colour == "sync" else asyncio.run(arun(verb, reach))

    assert gate.passed == ["enter", error if told is ... else told]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_no_request_waits_for_has_more_time(colour):
    left = drive(colour, asking(colour, lambda sessions: _csot.remaining(), patient=True), 7)

    assert 7 < left <= PATIENCE


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


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_verb_ends_at_once_where_its_call_is_given_up(colour):
    def give_up(sessions):
        raise KeyboardInterrupt

    verb = asking(colour, give_up)
    with pytest.raises(KeyboardInterrupt) as held:  # and with it the frames that hold the verb
        drive(colour, verb, None)

    assert held
    assert verb.gi_frame is None
