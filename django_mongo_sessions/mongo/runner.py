"""Run the steps of a verb, with blocking calls or with await.

A verb of the store is a generator of `Steps`: it yields operations, each one awaitable call on the
collection, and is sent their results. `run` does the calls and `arun` awaits them, so no verb is
written twice. That works because `Collection` and `AsyncCollection` have the same method names.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pymongo
from asgiref.sync import sync_to_async
from bson.errors import InvalidBSON
from django.contrib.sessions.backends import base
from pymongo.errors import PyMongoError

from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.breaker import OPEN, Gate
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.mongo import coalescing
from django_mongo_sessions.mongo.coalescing import Joint
from django_mongo_sessions.mongo.tracebacks import forget_values, withhold_values

MAINTENANCE_TIMEOUT = 600.0  # seconds for an operation that no request waits for

Answer = TypeVar("Answer")
Result = TypeVar("Result")

logger = logging.getLogger("django_mongo_sessions")

# The folders and files between a view and an operation: the whole package, and Django's base class.
_MACHINERY = (str(Path(__file__).parents[1]), base.__file__)


@dataclass(frozen=True)
class Operation(Generic[Answer]):
    """One awaitable call on the collection, and how to interpret its reply."""

    call: Callable[[Any], Any]
    read: Callable[[Any], Answer]
    # Seconds that it may take, if not as long as others. One that no request waits for gets
    # MAINTENANCE_TIMEOUT. Never the first step of a verb: while MongoDB is down, it would wait that
    # long for a server.
    timeout: float | None = None
    # Whether the circuit breaker learns of it. One that a request can do without does not count.
    counts: bool = True
    # How it is sent with others of its kind; None if it never is.
    joint: Joint | None = None


@dataclass(frozen=True)
class Wait:
    """A pause between two operations."""

    seconds: float


Steps = Generator[Operation[Any] | Wait, Any, Result]


# Called before the first step and after each call, to end the steps with the error that it raises.
Guard = Callable[[], None]


def run(steps: Steps[Result], gate: Gate = OPEN, guard: Guard | None = None) -> Result:
    """Run the steps with blocking calls on this process's client.

    A session's `gate` may refuse to begin, and learns of errors. Raises what the steps raise, and
    PyMongo's errors.
    """
    if logger.isEnabledFor(logging.DEBUG):
        _warn_of_a_blocked_loop()
    began = time.monotonic()
    try:
        gate.enter(began)
        return run_on(clients.collection(), steps, guard)
    except Exception as error:
        _pass_on(error, gate, began)
        raise


class Turns:
    """Lets the tasks that share a session run their steps one after another.

    Steps that are run from inside other steps of the same session belong to the same turn: a
    subclass's own method, called by the steps, may call super(), also from a task of its own.
    """

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over: asyncio.Event | None = None  # set at the end of the turn that is under way


# The sessions whose turn it is in the running context.
_own_turns: ContextVar[tuple[Turns, ...]] = ContextVar("_own_turns", default=())


async def arun(
    steps: Steps[Result],
    gate: Gate = OPEN,
    turns: Turns | None = None,
    guard: Guard | None = None,
) -> Result:
    """See run(). With the `turns` of a session, no other task runs its steps at the same time.

    If the running loop has no client of its own, the steps run in the loop all the same, and a
    thread makes each call: so whatever changes the session in memory stays in the loop's thread.
    """
    own = _own_turns.get()
    if turns is None or turns in own:
        return await _arun(steps, gate, guard)
    while turns.over is not None:
        await turns.over.wait()
    turns.over = over = asyncio.Event()
    _own_turns.set((*own, turns))
    try:
        return await _arun(steps, gate, guard)
    finally:
        _own_turns.set(own)
        turns.over = None
        over.set()


async def _arun(steps: Steps[Result], gate: Gate, guard: Guard | None) -> Result:
    began = time.monotonic()
    try:
        gate.enter(began)
        target = await clients.acollection()
        if target is not None:
            return await arun_on(target, steps, guard)
        target = await clients.collection_for_threads()
        return await _drive(target, steps, guard, _call_in_thread, asyncio.sleep)
    except Exception as error:
        _pass_on(error, gate, began)
        raise


def _pass_on(error: Exception, gate: Gate, began: float) -> None:
    forget_values(error)
    gate.leave(began, error)


def run_on(target: SessionCollection, steps: Steps[Result], guard: Guard | None = None) -> Result:
    """Run the steps with blocking calls on a given collection.

    PyMongo's errors, and errors in decoding a reply, are thrown into the steps, which let those
    pass that they do not expect.
    """
    driver = _drive(target, steps, guard, _call, _sleep)
    try:
        while True:  # once, since nothing in it suspends
            driver.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun_on(
    target: SessionCollection, steps: Steps[Result], guard: Guard | None = None
) -> Result:
    """See run_on(). The collection is an asynchronous one."""
    return await _drive(target, steps, guard, _await, asyncio.sleep)


# Makes the call of an operation within so many seconds.
Call = Callable[[Operation[Any], SessionCollection, "float | None"], Awaitable[Any]]


async def _drive(
    target: SessionCollection,
    steps: Steps[Result],
    guard: Guard | None,
    call: Call,
    sleep: Callable[[float], Awaitable[None]],
) -> Result:
    """Run the steps, whatever makes their calls."""
    timeout, gate = target.timeout, target.gate
    handled = sys.exc_info()[1]
    step: Callable[[Any], Operation[Any] | Wait] = steps.send
    argument: Any = None
    try:
        while True:
            if guard is not None:
                try:
                    guard()
                except Exception as error:  # once, so that the steps can clean up
                    step, argument, guard = steps.throw, error, None
            operation = step(argument)
            if isinstance(operation, Wait):
                await sleep(operation.seconds)
                step, argument = steps.send, None
                continue
            seconds = timeout if operation.timeout is None else operation.timeout
            began = time.monotonic()
            try:
                gate.enter(began)
                reply = await call(operation, target, seconds)
            except Exception as error:
                withhold_values(error, handled)
                if isinstance(error, PyMongoError):
                    if operation.counts and not _has_shorter_deadline(seconds, began):
                        gate.leave(began, error)
                elif isinstance(error, InvalidBSON):  # a reply arrived
                    gate.leave(began)
                else:
                    raise
                step, argument = steps.throw, error
            else:
                gate.leave(began)
                step, argument = steps.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()  # now, even if the call was given up


async def _call(operation: Operation[Any], target: SessionCollection, seconds: float | None) -> Any:
    with _deadline(seconds):
        return coalescing.call(operation, target, _remaining)


async def _await(
    operation: Operation[Any], target: SessionCollection, seconds: float | None
) -> Any:
    with _deadline(seconds):
        return await coalescing.acall(operation, target, _remaining)


async def _call_in_thread(
    operation: Operation[Any], target: SessionCollection, seconds: float | None
) -> Any:
    def call() -> Any:
        with _deadline(seconds):
            return coalescing.call(operation, target, _remaining)

    # In a context of its own: asgiref copies the thread's context back to the task, and if the
    # task was cancelled, the deadline would stay there and end every later call of PyMongo's.
    return await sync_to_async(copy_context().run)(call)


async def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # for blocking calls


def _deadline(seconds: float | None) -> AbstractContextManager[None]:
    # pymongo.timeout(None) would lift a limit that the caller has set.
    return nullcontext() if seconds is None else pymongo.timeout(seconds)


# PyMongo has no public way to ask for the caller's deadline. Without this one it is not known.
_remaining: Callable[[], float | None] = getattr(
    getattr(pymongo, "_csot", None), "remaining", lambda: None
)


def _has_shorter_deadline(seconds: float | None, began: float) -> bool:
    """Return whether the caller gave a call less time than this, by its own `pymongo.timeout()`.

    An error that such a call meets says nothing about the server.
    """
    left = _remaining()
    if left is None:
        return False
    return seconds is None or left + time.monotonic() - began < seconds


def _warn_of_a_blocked_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    stack = traceback.extract_stack()
    caller = next(frame for frame in reversed(stack) if not frame.filename.startswith(_MACHINERY))
    logger.debug(
        "A blocking call on a session blocks the running event loop: %s, line %s, in %s. "
        "Await its asynchronous form, such as `await request.session.aget()`.",
        caller.filename,
        caller.lineno,
        caller.name,
    )
