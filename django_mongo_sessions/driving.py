"""From a verb to its result: on this process's client, or on the one of the running event loop."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path
from typing import Protocol, TypeVar

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends import base

from django_mongo_sessions import clients, redaction
from django_mongo_sessions.drivers import Verb, arun, run

Result = TypeVar("Result")

logger = logging.getLogger("django_mongo_sessions")

_MACHINERY = (str(Path(__file__).parent), base.__file__)  # what lies between a view and a verb


class Asker(Protocol):
    """On whose behalf a verb is driven. It may refuse, and is told what was raised."""

    def _may_ask(self) -> None: ...

    def _was_told(self, error: Exception) -> None: ...


def drive(verb: Verb[Result], asker: Asker | None = None) -> Result:
    """Drive a verb with blocking calls. What it may raise is the verb's, and PyMongo's errors."""
    if logger.isEnabledFor(logging.DEBUG):
        _hint_at_a_waiting_loop()
    try:
        if asker is not None:
            asker._may_ask()
        return run(verb, clients.sessions())
    except Exception as error:
        _pass_on(error, asker)
        raise


async def adrive(verb: Verb[Result], asker: Asker | None = None) -> Result:
    """See drive(). In a thread, where the running loop has no client of its own."""
    reach = await clients.asessions()
    if reach is None:
        return await sync_to_async(drive)(verb, asker)
    try:
        if asker is not None:
            asker._may_ask()
        return await arun(verb, reach)
    except Exception as error:
        _pass_on(error, asker)
        raise


def _pass_on(error: Exception, asker: Asker | None) -> None:
    redaction.forget_values(error)
    if asker is not None:
        asker._was_told(error)


def _hint_at_a_waiting_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    stack = traceback.extract_stack()
    caller = next(frame for frame in reversed(stack) if not frame.filename.startswith(_MACHINERY))
    logger.debug(
        "A blocking call on a session keeps the running event loop waiting: %s, line %s, in %s. "
        "Await its asynchronous twin, such as `await request.session.aget()`.",
        *(caller.filename, caller.lineno, caller.name),
    )
