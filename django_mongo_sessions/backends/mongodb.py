"""The session engine: `SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"`."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends import base
from django.core.checks import register

from django_mongo_sessions import clients, indexes
from django_mongo_sessions.drivers import Verb, arun, run
from django_mongo_sessions.findings import check_apps
from django_mongo_sessions.verbs import SessionVerbs

Result = TypeVar("Result")

logger = logging.getLogger("django_mongo_sessions")

_MACHINERY = (str(Path(__file__).parent.parent), base.__file__)  # between a view and its session


def _drive(verb: Verb[Result]) -> Result:
    if logger.isEnabledFor(logging.DEBUG):
        _hint_at_a_waiting_loop()
    reach = clients.sessions()
    return run(verb, reach.sessions, reach.timeout)


async def _adrive(verb: Verb[Result]) -> Result:
    reach = await clients.asessions()
    if reach is None:
        return await sync_to_async(_drive)(verb)
    return await arun(verb, reach.sessions, reach.timeout)


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


class SessionStore(SessionVerbs):
    """Sessions in MongoDB: each verb of Django's `SessionBase`, with blocking calls and with await.

    PyMongo's errors pass through every verb: a session that could not be read is not an empty one.
    """

    _after_insert = staticmethod(indexes.ensure_once)

    def load(self) -> dict[str, Any]:
        """Return the session's data, `{}` where there is no such session or it does not open."""
        snapshot = _drive(self._loading())
        return {} if snapshot is None else snapshot.data

    async def aload(self) -> dict[str, Any]:
        """See load()."""
        snapshot = await _adrive(self._loading())
        return {} if snapshot is None else snapshot.data

    def exists(self, session_key: str | None) -> bool:
        """Return whether a session lives under the key."""
        return _drive(self._existing(session_key))

    async def aexists(self, session_key: str | None) -> bool:
        """See exists()."""
        return await _adrive(self._existing(session_key))

    def create(self) -> None:
        """Store the session under a new key."""
        _drive(self._creating())

    async def acreate(self) -> None:
        """See create()."""
        await _adrive(self._creating())

    def save(self, must_create: bool = False) -> None:
        """Store the session, without a key under a new one.

        What others have stored meanwhile is merged in: each key as the last who changed it left
        it. Raises UpdateError where the session was deleted meanwhile; SessionConflict where
        another has changed the same key, if ON_CONFLICT is "raise", or was faster 200 times; with
        `must_create`, CreateError where the key is taken. Raises TypeError or ValueError for what
        the serializer cannot take, and pymongo.errors.DocumentTooLarge past 15 MB, before anything
        is sent.
        """
        _drive(self._saving(must_create))

    async def asave(self, must_create: bool = False) -> None:
        """See save()."""
        await _adrive(self._saving(must_create))

    def mutate(self, function: Callable[[dict[str, Any]], Result]) -> Result | None:
        """Change the session by a function of its data, as if nobody else was there.

        What is unsaved and what others have stored is merged, the function changes the dict that
        it is given, and the outcome is stored if nobody was faster; else all of it is done again.
        So the function may run more than once, and must not do anything but change the dict.
        Returns what the function returned. If it raises, nothing is written. Raises what save()
        raises, and TypeError for a coroutine function.
        """
        return _drive(self._mutating(function))

    async def amutate(self, function: Callable[[dict[str, Any]], Result]) -> Result | None:
        """See mutate(). The function is an ordinary one."""
        return await _adrive(self._mutating(function))

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session under the key, or this one."""
        _drive(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        """See delete()."""
        await _adrive(self._deleting(session_key))

    def cycle_key(self) -> None:
        """Move the session's data to a new key, with what others have stored meanwhile.

        Raises UpdateError where the session was signed in, and is deleted meanwhile, and
        SessionConflict as save() does.
        """
        _drive(self._cycling())

    async def acycle_key(self) -> None:
        """See cycle_key()."""
        await _adrive(self._cycling())

    def flush(self) -> None:
        """Delete the session, and begin an empty one without a key."""
        _drive(self._flushing())

    async def aflush(self) -> None:
        """See flush()."""
        await _adrive(self._flushing())

    @classmethod
    def clear_expired(cls) -> int:  # type: ignore[override]  # Django's returns nothing
        """Delete the sessions that have expired, in batches, and return how many they were."""
        return _drive(cls._clearing_expired())

    @classmethod
    async def aclear_expired(cls) -> int:  # type: ignore[override]
        """See clear_expired()."""
        return await _adrive(cls._clearing_expired())

    # What SessionBase calls underneath

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        try:
            return self._session_cache
        except AttributeError:
            return _drive(self._data(no_load))

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        try:
            return self._session_cache
        except AttributeError:
            return await _adrive(self._data(no_load))

    _session = property(_get_session)


register(check_apps)
