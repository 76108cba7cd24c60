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
from typing import Any, Generic, TypeVar

import pymongo
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


Verb = Generator[Operation[Any] | Wait, Any, Result]


def run(verb: Verb[Result], sessions: Any, timeout: float | None) -> Result:
    """Drive a verb with blocking calls on a collection, and return what the verb returns.

    `timeout` is in seconds, for each operation; None leaves it to the client. PyMongo's errors
    are thrown into the verb, which lets through those that it does not expect.
    """
    step: Callable[[Any], Operation[Any] | Wait] = verb.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            if isinstance(operation, Wait):
                time.sleep(operation.seconds)
                step, argument = verb.send, None
                continue
            try:
                with _deadline(PATIENCE if operation.patient else timeout):
                    reply = operation.call(sessions)
            except PyMongoError as error:
                step, argument = verb.throw, error
            else:
                step, argument = verb.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        verb.close()  # now, also where the call was given up


async def arun(verb: Verb[Result], sessions: Any, timeout: float | None) -> Result:
    """See run(). The collection is an asynchronous one."""
    step: Callable[[Any], Operation[Any] | Wait] = verb.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            if isinstance(operation, Wait):
                await asyncio.sleep(operation.seconds)
                step, argument = verb.send, None
                continue
            try:
                with _deadline(PATIENCE if operation.patient else timeout):
                    reply = await operation.call(sessions)
            except PyMongoError as error:
                step, argument = verb.throw, error
            else:
                step, argument = verb.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        verb.close()  # now, also where the call was given up


def _deadline(seconds: float | None) -> AbstractContextManager[None]:
    # pymongo.timeout(None) would lift a limit that the caller has set outside.
    return nullcontext() if seconds is None else pymongo.timeout(seconds)
