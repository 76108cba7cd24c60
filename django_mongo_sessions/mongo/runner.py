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
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from asgiref.sync import sync_to_async
from bson.errors import InvalidBSON
from django.contrib.sessions.backends import base
from django.dispatch import Signal
from pymongo.asynchronous import client_session as asynchronous
from pymongo.errors import PyMongoError
from pymongo.synchronous import client_session as synchronous

from django_mongo_sessions.connection import clients, errors
from django_mongo_sessions.connection.breaker import OPEN, Gate
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.connection.srv import dns_outage
from django_mongo_sessions.exceptions import DNSUnavailable
from django_mongo_sessions.mongo import coalescing, deadlines
from django_mongo_sessions.mongo.joint import Joint
from django_mongo_sessions.mongo.tracebacks import forget_values, leave_out_repeats, withhold_values

MAINTENANCE_TIMEOUT = 600.0  # seconds for an operation that no request waits for

Answer = TypeVar("Answer")
Result = TypeVar("Result")

logger = logging.getLogger("django_mongo_sessions")

# The folders and files between a view and an operation: the whole package, and Django's base class.
_MACHINERY = (str(Path(__file__).parents[1]), base.__file__)


@dataclass(slots=True)
class Operation(Generic[Answer]):
    """One awaitable call on the collection, and how to interpret its reply."""

    call: Callable[[Any], Any]
    read: Callable[[Any], Answer]
    # Seconds that it may take; None for as long as usual. An operation that no request waits for
    # gets MAINTENANCE_TIMEOUT. Such an operation must not be the first step of a verb: while
    # MongoDB is down, it would wait that long for a server.
    timeout: float | None = None
    # Whether the circuit breaker learns of it. It does not if a request can do without the result.
    counts: bool = True
    # How it is sent with others of its kind; None if it never is.
    joint: Joint | None = None


@dataclass(slots=True)
class Wait:
    """A pause between two operations."""

    seconds: float


@dataclass(slots=True)
class Overridden:
    """A method that a subclass of the store overrides, to be called or awaited."""

    store: Any
    name: str  # of the blocking method
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """A function of the site's, which may do I/O: in a thread, if the steps are awaited."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(slots=True)
class Elsewhere:
    """I/O with something that is not MongoDB, to be called or awaited."""

    call: Callable[[], Any]
    acall: Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Send:
    """A signal to be sent. A receiver that raises is logged by Django."""

    signal: Signal
    sender: Any
    arguments: Mapping[str, Any]


Step = Operation[Any] | Wait | Overridden | Call | Elsewhere | Send
Steps = Generator[Step, Any, Result]


def single(operation: Operation[Answer]) -> Steps[Answer]:
    """Return the steps that are one operation."""
    answer: Answer = yield operation
    return answer


def awaitable_twin(name: str) -> str:
    """Return the name of the method to be awaited that belongs to a blocking one."""
    return f"_a{name[1:]}" if name.startswith("_") else f"a{name}"


# Called before the first step and after each call, to end the steps with the error that it raises.
Guard = Callable[[], None]


def run(steps: Steps[Result], gate: Gate = OPEN, guard: Guard | None = None) -> Result:
    """Run the steps with blocking calls on this process's client.

    A session's `gate` may refuse to begin, and learns of errors. Raises what the steps raise, and
    PyMongo's errors.
    """
    if logger.isEnabledFor(logging.DEBUG):
        _warn_of_a_blocked_loop()
    handled, began = sys.exc_info()[1], time.monotonic()
    try:
        gate.enter(began)
        return run_on(clients.collection(), steps, guard)
    except Exception as error:
        _pass_on(error, handled, gate, began)
        raise


class Turns:
    """Lets the tasks that share a session run their steps one after another.

    Steps that are run from inside other steps of the same session belong to the same turn: a
    subclass's own method, called by the steps, may call super(), also from a task of its own.
    """

    __slots__ = ("are_taken", "over")

    def __init__(self) -> None:
        self.are_taken = False
        self.over: asyncio.Event | None = None  # set at the end of the turn, if a task waits for it


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
    while turns.are_taken:
        if turns.over is None:
            turns.over = asyncio.Event()
        await turns.over.wait()
    turns.are_taken = True
    _own_turns.set((*own, turns))
    try:
        return await _arun(steps, gate, guard)
    finally:
        _own_turns.set(own)
        turns.are_taken = False
        if turns.over is not None:
            turns.over.set()
            turns.over = None


async def _arun(steps: Steps[Result], gate: Gate, guard: Guard | None) -> Result:
    handled, began = sys.exc_info()[1], time.monotonic()
    try:
        gate.enter(began)
        target = await clients.acollection()
        if target is not None:
            return await arun_on(target, steps, guard)
        target = await clients.collection_for_threads()
        return await _drive(target, steps, guard, _IN_THREADS)
    except Exception as error:
        _pass_on(error, handled, gate, began)
        raise


def _pass_on(error: Exception, handled: BaseException | None, gate: Gate, began: float) -> None:
    forget_values(error)
    leave_out_repeats(error, handled)
    gate.leave(began, error)


def run_on(target: SessionCollection, steps: Steps[Result], guard: Guard | None = None) -> Result:
    """Run the steps with blocking calls on a given collection.

    PyMongo's errors, and errors in decoding a reply, are thrown into the steps, which let those
    pass that they do not expect.
    """
    driver = _drive(target, steps, guard, _BLOCKING)
    try:
        while True:  # once, since nothing in it suspends
            driver.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun_on(
    target: SessionCollection, steps: Steps[Result], guard: Guard | None = None
) -> Result:
    """See run_on(). The collection is an asynchronous one."""
    return await _drive(target, steps, guard, _NATIVE)


class _Form(NamedTuple):
    """How each kind of step is done."""

    # Makes the call of an operation within that many seconds.
    call: Callable[[Operation[Any], SessionCollection, float | None], Awaitable[Any]]
    sleep: Callable[[float], Awaitable[None]]
    call_site: Callable[[Overridden | Call | Elsewhere], Awaitable[Any]]
    send: Callable[[Send], Awaitable[Any]]


async def _drive(
    target: SessionCollection, steps: Steps[Result], guard: Guard | None, form: _Form
) -> Result:
    """Run the steps, in whatever form."""
    handled = sys.exc_info()[1]
    step: Callable[[Any], Step] = steps.send
    argument: Any = None
    repeated: Operation[Any] | None = None
    try:
        while True:
            if guard is not None:
                try:
                    guard()
                except Exception as error:  # once, so that the steps can clean up
                    step, argument, guard = steps.throw, error, None
            operation = step(argument)
            if isinstance(operation, Wait):
                await form.sleep(operation.seconds)
                step, argument = steps.send, None
                continue
            if isinstance(operation, (Overridden, Call, Elsewhere)):
                try:
                    step, argument = steps.send, await form.call_site(operation)
                except Exception as error:
                    step, argument = steps.throw, error
                continue
            if isinstance(operation, Send):
                step, argument = steps.send, await form.send(operation)
                continue
            seconds = target.timeout if operation.timeout is None else operation.timeout
            gate, began = target.gate, time.monotonic()
            try:
                gate.enter(began)
                with _unbound():
                    reply = await form.call(operation, target, seconds)
            except Exception as error:
                if target.reopen and operation is not repeated and errors.client_was_closed(error):
                    # Not thrown into the steps, since nothing was sent. What the site's code raises
                    # ends the steps, as if it had been called before the first one.
                    reopening = Operation[Any](partial(_reopen, target), _same)
                    target = await form.call(reopening, target, None)
                    step, argument, repeated = _same, operation, operation
                    continue
                error = dns_outage(error, target.collection) or error
                withhold_values(error, handled)
                if isinstance(error, PyMongoError):
                    if operation.counts and not _may_be_callers(error, seconds, began):
                        gate.leave(began, error)
                    gate.explain(error)
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


def _same(value: Any) -> Any:
    return value


def _reopen(closed: SessionCollection, collection: Any) -> Any:
    """Return what takes the place of a collection whose shared client was closed."""
    assert closed.reopen is not None
    return closed.reopen(closed)


async def _call(operation: Operation[Any], target: SessionCollection, seconds: float | None) -> Any:
    return coalescing.call(operation, target, seconds)


async def _call_in_thread(
    operation: Operation[Any], target: SessionCollection, seconds: float | None
) -> Any:
    # In a context of its own: asgiref copies the thread's context back to the task, and if the
    # task was cancelled, the deadline would stay there and end every later call of PyMongo's.
    call = copy_context().run
    return await sync_to_async(call)(coalescing.call, operation, target, seconds)


async def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # for blocking calls


async def _call_site(step: Overridden | Call | Elsewhere) -> Any:
    if isinstance(step, Elsewhere):
        return step.call()
    if isinstance(step, Call):
        return step.function(*step.arguments)
    return getattr(step.store, step.name)(*step.arguments, **step.options)


async def _await_site(step: Overridden | Call | Elsewhere) -> Any:
    if isinstance(step, Elsewhere):
        return await step.acall()
    if isinstance(step, Call):
        return await sync_to_async(step.function)(*step.arguments)
    method = getattr(step.store, awaitable_twin(step.name))
    return await method(*step.arguments, **step.options)


async def _send(step: Send) -> None:
    try:
        step.signal.send_robust(step.sender, **step.arguments)
    except RuntimeError:  # a blocking call in an event loop, where no receiver can be awaited
        logger.exception("A receiver of a signal could not be awaited within a blocking call.")


async def _asend(step: Send) -> None:
    if hasattr(step.signal, "asend_robust"):
        await step.signal.asend_robust(step.sender, **step.arguments)
    else:  # Django 4.2
        await sync_to_async(step.signal.send_robust)(step.sender, **step.arguments)


_BLOCKING = _Form(_call, _sleep, _call_site, _send)
_NATIVE = _Form(coalescing.acall, asyncio.sleep, _await_site, _asend)
_IN_THREADS = _Form(_call_in_thread, asyncio.sleep, _await_site, _asend)


# Where PyMongo 4.17 keeps the session of a `ClientSession.bind()`. There is no public way out.
_BOUND: list[ContextVar[Any]] = [
    module._SESSION for module in (synchronous, asynchronous) if hasattr(module, "_SESSION")
]


def _unbound() -> AbstractContextManager[None]:
    """Make calls outside of the site's transaction, if one surrounds them.

    Otherwise PyMongo would make them a part of it, or refuse them if it is another client's.
    """
    bound = [(variable, session) for variable in _BOUND if (session := variable.get())]
    return _set_aside(bound) if bound else nullcontext()


@contextmanager
def _set_aside(bound: list[tuple[ContextVar[Any], Any]]) -> Iterator[None]:
    for variable, _ in bound:
        variable.set(None)
    try:
        yield
    finally:
        for variable, session in bound:
            variable.set(session)


def _may_be_callers(error: PyMongoError, seconds: float | None, began: float) -> bool:
    """Return whether a call may have failed because of the caller's own `pymongo.timeout()`.

    It may if that gave the call less time than `seconds`. Then the error says nothing about the
    server. But no deadline ends a look-up in the DNS.
    """
    left = deadlines.remaining()
    if left is None or isinstance(error, DNSUnavailable):
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
