"""How a verb is driven. A verb is a generator that yields operations and is sent their answers.

An `Operation` is one awaitable call on a collection and how to read its reply; `run` and `arun` do
the calls. They serve both colours because `Collection` and `AsyncCollection` bear the same method
names.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import pymongo
from bson.errors import InvalidBSON
from pymongo.errors import PyMongoError

PATIENCE = 600.0  # seconds for one step of what no request waits for: it may scan a collection

Answer = TypeVar("Answer")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Operation(Generic[Answer]):
    """One awaitable call on a collection, and how to read its reply."""

    call: Callable[[Any], Any]
    read: Callable[[Any], Answer]
    # No request waits for it. Never the first of a verb: the driver would look for a server, and
    # perhaps for one that is away, just as patiently.
    patient: bool = False


@dataclass(frozen=True)
class Wait:
    """A pause between two operations."""

    seconds: float


class Gate:
    """What each call passes. This one lets all of them through."""

    def enter(self, began: float) -> None:
        """Let a call through that begins at this time.monotonic(), or raise a PyMongoError."""

    def leave(self, began: float, error: PyMongoError | None = None) -> None:
        """Learn how a call ended."""


class Reach(NamedTuple):
    """The collection of sessions, and how it may be used."""

    sessions: Any
    timeout: float | None = None  # seconds for one operation; None leaves it to the client
    ours: bool = False  # whether we made its client, and so close it
    gate: Gate = Gate()

    @property
    def client(self) -> Any:
        """The client behind the collection."""
        return self.sessions.database.client


Verb = Generator[Operation[Any] | Wait, Any, Result]


def run(verb: Verb[Result], reach: Reach) -> Result:
    """Drive a verb with blocking calls on a collection, and return what the verb returns.

    PyMongo's errors, and what its codec raises for an answer, are thrown into the verb, which lets
    through those that it does not expect.
    """
    sessions, timeout, _, gate = reach
    step: Callable[[Any], Operation[Any] | Wait] = verb.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            if isinstance(operation, Wait):
                time.sleep(operation.seconds)
                step, argument = verb.send, None
                continue
            began = time.monotonic()
            try:
                gate.enter(began)
                with _deadline(PATIENCE if operation.patient else timeout):
                    reply = operation.call(sessions)
            except PyMongoError as error:
                gate.leave(began, error)
                step, argument = verb.throw, error
            except InvalidBSON as error:  # an answer came, which is none of PyMongo's errors
                gate.leave(began)
                step, argument = verb.throw, error
            else:
                gate.leave(began)
                step, argument = verb.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        verb.close()  # now, also where the call was given up


async def arun(verb: Verb[Result], reach: Reach) -> Result:
    """See run(). The collection is an asynchronous one."""
    sessions, timeout, _, gate = reach
    step: Callable[[Any], Operation[Any] | Wait] = verb.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            if isinstance(operation, Wait):
                await asyncio.sleep(operation.seconds)
                step, argument = verb.send, None
                continue
            began = time.monotonic()
            try:
                gate.enter(began)
                with _deadline(PATIENCE if operation.patient else timeout):
                    reply = await operation.call(sessions)
            except PyMongoError as error:
                gate.leave(began, error)
                step, argument = verb.throw, error
            except InvalidBSON as error:  # an answer came, which is none of PyMongo's errors
                gate.leave(began)
                step, argument = verb.throw, error
            else:
                gate.leave(began)
                step, argument = verb.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        verb.close()  # now, also where the call was given up


def _deadline(seconds: float | None) -> AbstractContextManager[None]:
    # pymongo.timeout(None) would lift a limit that the caller has set outside.
    return nullcontext() if seconds is None else pymongo.timeout(seconds)
