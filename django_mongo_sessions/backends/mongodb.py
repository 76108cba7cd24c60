"""The session engine: `SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from django.apps import apps
from django.core.checks import register
from django.http import HttpRequest

from django_mongo_sessions.checks.messages import check_apps, message
from django_mongo_sessions.conf import conf
from django_mongo_sessions.engine import deleting, loading, moving, overriding, saving
from django_mongo_sessions.engine.overriding import twin
from django_mongo_sessions.engine.session import TrackedSession
from django_mongo_sessions.mongo.runner import Steps, Turns, arun, run
from django_mongo_sessions.storage import dates

Result = TypeVar("Result")
Store = TypeVar("Store", bound="SessionStore")

logger = logging.getLogger("django_mongo_sessions")


class SessionStore(TrackedSession):
    """Sessions in MongoDB: each method of Django's `SessionBase`, blocking and to be awaited.

    Without a key, the session is a new one. With a key, it is read from MongoDB when it is first
    used. Every method lets PyMongo's errors pass: a session that could not be read is not an empty
    one.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._turns = Turns()
        _recommend_the_app()

    @classmethod
    def of(cls: type[Store], request: HttpRequest) -> Store:
        """Return `request.session`, which type checkers then know to be of this class.

        Raises TypeError if it is not, such as with another SESSION_ENGINE.
        """
        session: Any = request.session
        if not isinstance(session, cls):
            raise TypeError(
                f"The request's session is a {type(session).__module__}."
                f"{type(session).__qualname__}, and not a {cls.__module__}.{cls.__qualname__}. "
                "SESSION_ENGINE says which it is."
            )
        return session

    def load(self) -> dict[str, Any]:
        """Return the session's data as a dict; `{}` if there is no session, or it does not open."""
        snapshot = self._run(loading.load(self))
        return {} if snapshot is None else snapshot.data

    @twin
    async def aload(self) -> dict[str, Any]:
        """See load()."""
        snapshot = await self._arun(loading.load(self))
        return {} if snapshot is None else snapshot.data

    def exists(self, session_key: str | None) -> bool:
        """Return whether a session is stored under the key; False for what cannot be a key."""
        steps = loading.exists(session_key)
        del session_key  # a traceback shows the variables of this frame
        return self._run(steps)

    @twin
    async def aexists(self, session_key: str | None) -> bool:
        """See exists()."""
        steps = loading.exists(session_key)
        del session_key
        return await self._arun(steps)

    def create(self) -> None:
        """Store the session under a new key.

        Raises what save() raises, except for SessionConflict.
        """
        self._write(saving.create(self))

    @twin
    async def acreate(self) -> None:
        """See create()."""
        await self._awrite(saving.create(self))

    def save(self, must_create: bool = False) -> None:
        """Store the session; if it has no key, under a new one.

        What other requests have stored since it was loaded is merged: each session key gets the
        value of the last request that changed it. Raises UpdateError if the session was deleted
        since. Raises SessionConflict if another request has changed the same session key and
        ON_CONFLICT is "raise", or if other requests were faster 200 times. With `must_create`,
        raises CreateError if the key is taken. Before anything is sent, raises TypeError or
        ValueError for a value that the serializer cannot store, and pymongo.errors.DocumentTooLarge
        if the serialized session exceeds 15 MB.
        """
        self._write(saving.save(self, must_create))

    @twin
    async def asave(self, must_create: bool = False) -> None:
        """See save()."""
        await self._awrite(saving.save(self, must_create))

    def mutate(self, function: Callable[[dict[str, Any]], Result]) -> Result:
        """Change the session by a function of its data, as if there were no other request.

        Unsaved changes and what other requests have stored are merged into a dict, the function
        changes that dict, and the outcome is stored if no other request was faster. Otherwise all
        of this is repeated. So the function may run more than once, and must do nothing but change
        the dict. It is an ordinary function, also for amutate(). Returns what the function
        returned. If the function raises, nothing is stored. Raises what save() raises, and
        TypeError for a coroutine function.
        """
        return self._write(saving.mutate(self, function))

    @twin
    async def amutate(self, function: Callable[[dict[str, Any]], Result]) -> Result:
        """See mutate()."""
        return await self._awrite(saving.mutate(self, function))

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session under the key, or this one if it is None.

        If it has moved to a new key within the last minute, it is deleted there. It is no error if
        there is no such session.
        """
        steps = deleting.delete(self, session_key)
        del session_key
        self._run(steps)

    @twin
    async def adelete(self, session_key: str | None = None) -> None:
        """See delete()."""
        steps = deleting.delete(self, session_key)
        del session_key
        await self._arun(steps)

    def cycle_key(self) -> None:
        """Move the session to a new key, with what other requests store in the meantime.

        Raises UpdateError if the session was signed in and is deleted in the meantime, and
        SessionConflict as save() does.
        """
        self._write(moving.cycle_key(self))

    @twin
    async def acycle_key(self) -> None:
        """See cycle_key()."""
        await self._awrite(moving.cycle_key(self))

    def flush(self) -> None:
        """Delete the session, and begin an empty one without a key.

        A write that another task or thread has begun on this session raises UpdateError.
        """
        self._run(deleting.flush(self))

    @twin
    async def aflush(self) -> None:
        """See flush()."""
        await self._arun(deleting.flush(self))

    def describe(self, *, with_data: bool = False) -> dict[str, Any] | None:
        """Return the stored document to be shown, even if it has expired; None if there is none.

        It is a dict by the names of the fields. "_id" is hexadecimal, and "payload" is a dict of
        its parts. Nothing is checked, decoded or loaded into this session. With `with_data`, "data"
        is the decoded session, or None if the payload does not open.
        """
        return self._run(loading.describe(self, with_data))

    @twin
    async def adescribe(self, *, with_data: bool = False) -> dict[str, Any] | None:
        """See describe()."""
        return await self._arun(loading.describe(self, with_data))

    def _touch(self) -> bool:
        """Move the expiry of a session that was read, if no other request has written it since.

        Returns whether that was done. Unsaved changes stay unsaved.
        """
        return self._write(saving.touch(self))

    async def _atouch(self) -> bool:
        """See _touch()."""
        return await self._awrite(saving.touch(self))

    @classmethod
    def clear_expired(cls) -> int:  # type: ignore[override]  # Django's returns nothing
        """Delete the sessions of all visitors that have expired, and return how many there were.

        They are deleted in batches of 1,000.
        """
        _recommend_the_app()
        return run(deleting.clear_expired())

    @classmethod
    async def aclear_expired(cls) -> int:  # type: ignore[override]
        """See clear_expired()."""
        _recommend_the_app()
        return await arun(deleting.clear_expired())

    # When it ends: as Django says, but never later than ABSOLUTE_AGE allows. With `modification` or
    # `expiry`, the end is a hypothetical one. With `expiry`, nothing is loaded.

    def get_expiry_age(self, **kwargs: Any) -> int:
        """Return the seconds until the session ends, at most what ABSOLUTE_AGE leaves.

        With `modification`, a datetime, or `expiry`, a number of seconds or a datetime, it returns
        the age that a session with these would have, as Django's method does. ABSOLUTE_AGE does not
        count then.
        """
        age = super().get_expiry_age(**kwargs)
        if kwargs or conf.ABSOLUTE_AGE is None:
            return age
        return min(age, int((self._latest_end() - dates.utc_now()).total_seconds()))

    @twin
    async def aget_expiry_age(self, **kwargs: Any) -> int:
        """See get_expiry_age()."""
        if "expiry" not in kwargs:
            await self._aget_session()
        return SessionStore.get_expiry_age(self, **kwargs)

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """Return when the session ends, at the latest when ABSOLUTE_AGE says.

        The datetime is naive, in `TIME_ZONE`, if `USE_TZ` is off. The arguments are those of
        get_expiry_age().
        """
        date = super().get_expiry_date(**kwargs)
        if kwargs or dates.utc(date) <= (end := self._latest_end()):
            return date
        return dates.in_zone_of(date, end)

    @twin
    async def aget_expiry_date(self, **kwargs: Any) -> datetime:
        """See get_expiry_date()."""
        if "expiry" not in kwargs:
            await self._aget_session()
        return SessionStore.get_expiry_date(self, **kwargs)

    # What SessionBase calls internally

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        # Not with try: a traceback would show the AttributeError before the error of an outage.
        data: dict[str, Any] | None = getattr(self, "_session_cache", None)
        return self._run(loading.data(self, no_load)) if data is None else data

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        data: dict[str, Any] | None = getattr(self, "_session_cache", None)
        return await self._arun(loading.data(self, no_load)) if data is None else data

    _session = property(_get_session)

    def _run(self, steps: Steps[Result]) -> Result:
        return run(steps, self._gate)

    async def _arun(self, steps: Steps[Result]) -> Result:
        return await arun(steps, self._gate, self._turns)

    # A write ends with UpdateError if another task or thread flushes the session before it is done.

    def _write(self, steps: Steps[Result]) -> Result:
        return run(steps, self._gate, self._guard())

    async def _awrite(self, steps: Steps[Result]) -> Result:
        return await arun(steps, self._gate, self._turns, self._guard())


SessionStore._methods = overriding.methods(SessionStore)


@cache
def _recommend_the_app() -> None:
    """Log once per process that the app is not installed, since no check can.

    A site works without it, so this is a warning only in development.
    """
    if apps.ready and not apps.is_installed("django_mongo_sessions"):
        recommended = message("W005")
        if not recommended.is_silenced():
            level = logging.WARNING if conf.DEBUG else logging.INFO
            logger.log(
                level, "%s %s Or silence %s.", recommended.msg, recommended.hint, recommended.id
            )


register(check_apps)
