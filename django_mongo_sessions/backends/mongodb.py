"""The session engine: `SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from django.core.checks import register

from django_mongo_sessions import dates, indexes
from django_mongo_sessions.conf import conf
from django_mongo_sessions.driving import adrive, drive
from django_mongo_sessions.findings import check_apps
from django_mongo_sessions.verbs import SessionVerbs

Result = TypeVar("Result")


class SessionStore(SessionVerbs):
    """Sessions in MongoDB: each verb of Django's `SessionBase`, with blocking calls and with await.

    PyMongo's errors pass through every verb: a session that could not be read is not an empty one.
    """

    _after_insert = staticmethod(indexes.ensure_once)

    def load(self) -> dict[str, Any]:
        """Return the session's data, `{}` where there is no such session or it does not open."""
        snapshot = drive(self._loading(), self)
        return {} if snapshot is None else snapshot.data

    async def aload(self) -> dict[str, Any]:
        """See load()."""
        snapshot = await adrive(self._loading(), self)
        return {} if snapshot is None else snapshot.data

    def exists(self, session_key: str | None) -> bool:
        """Return whether a session lives under the key."""
        verb = self._existing(session_key)
        del session_key  # a traceback shows the variables of this frame
        return drive(verb, self)

    async def aexists(self, session_key: str | None) -> bool:
        """See exists()."""
        verb = self._existing(session_key)
        del session_key
        return await adrive(verb, self)

    def create(self) -> None:
        """Store the session under a new key."""
        drive(self._creating(), self)

    async def acreate(self) -> None:
        """See create()."""
        await adrive(self._creating(), self)

    def save(self, must_create: bool = False) -> None:
        """Store the session, without a key under a new one.

        What others have stored meanwhile is merged in: each key as the last who changed it left
        it. Raises UpdateError where the session was deleted meanwhile; SessionConflict where
        another has changed the same key, if ON_CONFLICT is "raise", or was faster 200 times; with
        `must_create`, CreateError where the key is taken. Raises TypeError or ValueError for what
        the serializer cannot take, and pymongo.errors.DocumentTooLarge past 15 MB, before anything
        is sent.
        """
        drive(self._saving(must_create), self)

    async def asave(self, must_create: bool = False) -> None:
        """See save()."""
        await adrive(self._saving(must_create), self)

    def mutate(self, function: Callable[[dict[str, Any]], Result]) -> Result | None:
        """Change the session by a function of its data, as if nobody else was there.

        What is unsaved and what others have stored is merged, the function changes the dict that
        it is given, and the outcome is stored if nobody was faster; else all of it is done again.
        So the function may run more than once, and must not do anything but change the dict.
        Returns what the function returned. If it raises, nothing is written. Raises what save()
        raises, and TypeError for a coroutine function.
        """
        return drive(self._mutating(function), self)

    async def amutate(self, function: Callable[[dict[str, Any]], Result]) -> Result | None:
        """See mutate(). The function is an ordinary one."""
        return await adrive(self._mutating(function), self)

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session under the key, or this one."""
        verb = self._deleting(session_key)
        del session_key
        drive(verb, self)

    async def adelete(self, session_key: str | None = None) -> None:
        """See delete()."""
        verb = self._deleting(session_key)
        del session_key
        await adrive(verb, self)

    def cycle_key(self) -> None:
        """Move the session's data to a new key, with what others have stored meanwhile.

        Raises UpdateError where the session was signed in, and is deleted meanwhile, and
        SessionConflict as save() does.
        """
        drive(self._cycling(), self)

    async def acycle_key(self) -> None:
        """See cycle_key()."""
        await adrive(self._cycling(), self)

    def flush(self) -> None:
        """Delete the session, and begin an empty one without a key."""
        drive(self._flushing(), self)

    async def aflush(self) -> None:
        """See flush()."""
        await adrive(self._flushing(), self)

    def _touch(self) -> bool:
        """Move the expiry of a session that was read, if nobody has written to it since, and
        return whether that was done. What the session was changed to meanwhile stays unsaved.
        """
        return drive(self._touching(), self)

    async def _atouch(self) -> bool:
        """See _touch()."""
        return await adrive(self._touching(), self)

    @classmethod
    def clear_expired(cls) -> int:  # type: ignore[override]  # Django's returns nothing
        """Delete the sessions that have expired, in batches, and return how many they were."""
        return drive(cls._clearing_expired())

    @classmethod
    async def aclear_expired(cls) -> int:  # type: ignore[override]
        """See clear_expired()."""
        return await adrive(cls._clearing_expired())

    # When it ends, as Django's, but never later than ABSOLUTE_AGE allows. With `modification` or
    # `expiry` they compute what would be, and with `expiry` they read nothing.

    def get_expiry_age(self, **kwargs: Any) -> int:
        """Return the seconds until the session ends."""
        age = super().get_expiry_age(**kwargs)
        if kwargs or conf.ABSOLUTE_AGE is None:
            return age
        return min(age, int((self._latest_end() - dates.utc_now()).total_seconds()))

    async def aget_expiry_age(self, **kwargs: Any) -> int:
        """See get_expiry_age()."""
        if "expiry" not in kwargs:
            await self._aget_session()
        return self.get_expiry_age(**kwargs)

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """Return when the session ends; naive, in `TIME_ZONE`, where `USE_TZ` is off."""
        date = super().get_expiry_date(**kwargs)
        if kwargs or dates.utc(date) <= (end := self._latest_end()):
            return date
        return dates.like(date, end)

    async def aget_expiry_date(self, **kwargs: Any) -> datetime:
        """See get_expiry_date()."""
        if "expiry" not in kwargs:
            await self._aget_session()
        return self.get_expiry_date(**kwargs)

    # What SessionBase calls underneath

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        try:
            return self._session_cache
        except AttributeError:
            return drive(self._data(no_load), self)

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        try:
            return self._session_cache
        except AttributeError:
            return await adrive(self._data(no_load), self)

    _session = property(_get_session)


register(check_apps)
