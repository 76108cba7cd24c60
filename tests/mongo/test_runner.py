"""How the runner makes the calls of a verb, and lets the tasks of a session take turns."""

import asyncio
import math
import threading
from contextlib import nullcontext, suppress

import pymongo
import pytest
from bson.errors import InvalidBSON
from pymongo import _csot
from pymongo.errors import NetworkTimeout, PyMongoError

from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.breaker import Gate
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.mongo.runner import (
    MAINTENANCE_TIMEOUT,
    Operation,
    Turns,
    arun,
    arun_on,
    run_on,
)


def drive(form, verb, timeout):
    """Drive a verb whose operations need no server."""
    target = SessionCollection(None, timeout)
    return run_on(target, verb) if form == "sync" else asyncio.run(arun_on(target, verb))


def asking(form, ask, **options):
    """Return a verb of one operation that calls `ask`."""

    async def aask(sessions):
        return ask(sessions)

    def verb():
        return (yield Operation(ask if form == "sync" else aask, lambda reply: reply, **options))

    return verb()


@pytest.mark.parametrize("form", ["sync", "async"])
def test_each_call_has_its_deadline(form):
    left = drive(form, asking(form, lambda sessions: _csot.remaining()), 7)

    assert 0 < left <= 7
    assert _csot.remaining() is None


class Noting(Gate):
    """Records what passes it."""

    def __init__(self):
        self.passed = []

    def enter(self, began):
        self.passed.append("enter")

    def leave(self, began, error=None):
        self.passed.append(error)


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize(
    ("error", "told"), [(None, None), (PyMongoError("away"), ...), (InvalidBSON("odd"), None)]
)
def test_a_gate_learns_how_each_call_ended(form, error, told):
    def ask(sessions):
        if error:
            raise error

    gate = Noting()
    verb, target = asking(form, ask), SessionCollection(None, gate=gate)
    with pytest.raises(type(error)) if error else nullcontext():
        run_on(target, verb) if form == "sync" else asyncio.run(arun_on(target, verb))

    assert gate.passed == ["enter", error if told is ... else told]


def away(sessions):
    raise NetworkTimeout("no answer")


def fail(form, gate, timeout, **options):
    """Let a call fail on a collection with that timeout."""
    verb, target = asking(form, away, **options), SessionCollection(None, timeout, gate=gate)
    with pytest.raises(NetworkTimeout):
        run_on(target, verb) if form == "sync" else asyncio.run(arun_on(target, verb))


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("timeout", [None, 1.5, 7])
def test_a_gate_is_not_told_of_a_call_whose_caller_gave_it_less_time(form, timeout):
    gate = Noting()

    with pymongo.timeout(1):
        fail(form, gate, timeout)

    assert gate.passed == ["enter"]


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_gate_is_told_of_a_call_that_has_had_all_its_time(form):
    gate = Noting()

    with pymongo.timeout(60):
        fail(form, gate, 7)
    fail(form, gate, None)

    assert list(map(type, gate.passed)) == [str, NetworkTimeout] * 2


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_gate_is_not_told_how_a_call_failed_that_a_request_can_do_without(form):
    gate = Noting()

    fail(form, gate, 7, counts=False)

    assert gate.passed == ["enter"]


@pytest.mark.parametrize("form", ["sync", "async"])
def test_an_operation_that_no_request_waits_for_has_more_time(form):
    left = drive(
        form, asking(form, lambda sessions: _csot.remaining(), timeout=MAINTENANCE_TIMEOUT), 7
    )

    assert 7 < left <= MAINTENANCE_TIMEOUT


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("timeout", [None, 7])
def test_a_limit_that_the_caller_has_set_is_never_lifted(form, timeout):
    with pymongo.timeout(1):
        left = drive(form, asking(form, lambda sessions: _csot.remaining()), timeout)

    assert left < 1 < math.inf


@pytest.mark.parametrize("form", ["sync", "async"])
def test_an_error_is_thrown_into_the_verb_and_passes_through_it(form):
    def fail(sessions):
        raise PyMongoError("away")

    with pytest.raises(PyMongoError, match="away"):
        drive(form, asking(form, fail), None)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_verb_ends_at_once_if_its_call_is_cancelled(form):
    def give_up(sessions):
        raise KeyboardInterrupt

    verb = asking(form, give_up)
    with pytest.raises(KeyboardInterrupt) as held:  # and with it the frames that hold the verb
        drive(form, verb, None)

    assert held
    assert verb.gi_frame is None


# Turns


def call(function):
    """Return steps of one operation that awaits a coroutine function."""

    async def acall(collection):
        return await function()

    return (yield Operation(acall, lambda reply: reply))


@pytest.fixture
def on_a_loop(monkeypatch):
    """Run a coroutine function on a loop with a collection, which no operation here uses."""

    def on_a_loop(function):
        async def main():
            loop = asyncio.get_running_loop()
            monkeypatch.setitem(clients._clients.by_loop, loop, (SessionCollection(None), None))
            return await asyncio.wait_for(function(), 10)

        return asyncio.run(main())

    return on_a_loop


def test_the_steps_of_a_session_run_one_after_another(on_a_loop):
    turns, other, events = Turns(), Turns(), []

    async def step():
        events.append("begin")
        await asyncio.sleep(0)
        events.append("end")

    async def two(*both):
        events.clear()
        await asyncio.gather(*(arun(call(step), turns=turns) for turns in both))
        return list(events)

    async def test():
        assert await two(turns, turns) == ["begin", "end", "begin", "end"]
        assert await two(turns, other) == ["begin", "begin", "end", "end"]

    on_a_loop(test)


@pytest.mark.parametrize("in_a_task", [False, True])
def test_steps_within_steps_belong_to_the_same_turn(on_a_loop, in_a_task):
    turns = Turns()

    async def inner():
        return "inner"

    async def outer():
        steps = arun(call(inner), turns=turns)
        return await (asyncio.create_task(steps) if in_a_task else steps)

    async def test():
        return await arun(call(outer), turns=turns)

    assert on_a_loop(test) == "inner"


def test_a_session_has_its_own_turn_within_anothers(on_a_loop):
    one, other = Turns(), Turns()

    async def innermost():
        return "done"

    async def inner():
        return await arun(call(innermost), turns=one)

    async def outer():
        return await arun(call(inner), turns=other)

    async def test():
        return await arun(call(outer), turns=one)

    assert on_a_loop(test) == "done"


def test_a_turn_ends_when_its_task_is_cancelled(on_a_loop):
    turns = Turns()

    async def hang():
        await asyncio.sleep(60)

    async def reply():
        return "next"

    async def test():
        hanging = asyncio.create_task(arun(call(hang), turns=turns))
        await asyncio.sleep(0)
        following = asyncio.create_task(arun(call(reply), turns=turns))
        await asyncio.sleep(0)
        hanging.cancel()
        return await following

    assert on_a_loop(test) == "next"


def test_a_turn_ends_with_a_task_whose_loop_has_stopped(on_a_loop):
    turns = Turns()
    abandoned = arun(call(None), turns=turns)
    with pytest.raises(RuntimeError, match="no running event loop"):
        abandoned.send(None)

    assert turns.over is None


# Threads that make the calls of a loop


@pytest.fixture
def in_threads(monkeypatch):
    """Run a coroutine function on a loop whose calls threads make."""
    monkeypatch.setattr(clients, "PROMOTION_AGE", float("inf"))
    monkeypatch.setattr(clients._clients, "blocking", SessionCollection(None, timeout=7))
    return lambda function: asyncio.run(asyncio.wait_for(function(), 10))


def test_a_thread_makes_the_call_and_the_steps_stay_in_the_loop(in_threads):
    seen = []

    def steps():
        seen.append(threading.get_ident())
        yield Operation(lambda collection: seen.append(threading.get_ident()), lambda reply: None)
        seen.append(threading.get_ident())

    in_threads(lambda: arun(steps()))

    before, call, after = seen
    assert before == after == threading.get_ident() != call


def test_a_deadline_ends_with_a_call_that_is_cancelled(in_threads):
    goes_on = threading.Event()

    def call(collection):
        assert _csot.remaining() <= 7
        goes_on.wait(10)

    def steps():
        yield Operation(call, lambda reply: None)

    async def give_up():
        task = asyncio.current_task()
        threading.Timer(0.2, goes_on.set).start()
        asyncio.get_running_loop().call_later(0.1, task.cancel)
        with suppress(asyncio.CancelledError):
            await arun(steps())
        return _csot.get_timeout(), _csot.remaining()

    async def test():
        return await asyncio.create_task(give_up())

    assert in_threads(test) == (None, None)


def test_a_callers_deadline_holds_in_the_thread(in_threads):
    def steps():
        return (yield Operation(lambda collection: _csot.remaining(), lambda reply: reply))

    async def test():
        with pymongo.timeout(1):
            return await arun(steps())

    assert 0 < in_threads(test) <= 1
