"""The verbs that write over what is stored, each as a generator of operations. No I/O happens here.

No update is lost: they compare and set by the revision, and merge what others have stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import iscoroutine
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions import dates, documents, operations
from django_mongo_sessions.attempts import pauses
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.snapshots import Attempt, Content, Snapshot
from django_mongo_sessions.steps import SessionSteps

Result = TypeVar("Result")
Function = Callable[[dict[str, Any]], Result]

EXPIRED_BATCH = 1_000  # documents, whose removal takes some tens of milliseconds


class SessionVerbs(SessionSteps):
    """The verbs. `SessionStore` adds who drives them."""

    def _saving(self, must_create: bool = False) -> Verb[None]:
        if self.session_key is None and (yield from self._creating()):
            return
        data = yield from self._data(no_load=must_create)
        if must_create:
            yield from self._inserting([self.session_key], data)
            return
        base = self._current() or (yield from self._reading())
        dumped, self._dumped = self._dumped, None  # once: it may have changed by the next save
        ours = Content(self._session_cache, dumped or self._dump(self._session_cache))
        if base and base.holds(ours) and self._has_just_written():
            return
        yield from self._settling(base, None, ours)

    def _mutating(self, function: Function[Result]) -> Verb[Result | None]:
        data = yield from self._data()
        if self.session_key is None:
            ours = Content(data, self._dump(data))
            result, content = self._applied(function, ours)
            self._bring_up_to_date(data, ours, content)
            yield from self._saving()
            return result
        newest = yield from self._reading()
        return (yield from self._settling(newest, function))

    def _reading(self) -> Verb[Snapshot | None]:
        """Read the newest of the session; one of which nothing was known replaces it."""
        before = self._current()
        newest = yield from self._finding()
        known = self._current()
        if newest and known is None and newest.key == self.session_key:
            self._snapshot = replace(newest, data=self._session_cache, replaced=True)
        # Another task of the request may have stored a newer one while we asked.
        if newest and known and known is not before and newest.revision < known.revision:
            return known
        return newest

    def _applied(
        self, function: Function[Result] | None, content: Content
    ) -> tuple[Result | None, Content]:
        """Return what a function returns, and what it makes of a copy in stored form."""
        if function is None:
            return None, content
        data = self._load(content.body)
        result = function(data)
        if iscoroutine(result):
            result.close()
            raise TypeError(
                "mutate() takes a function that does no I/O, since it may run more than once, and "
                f"{function!r} is asynchronous. Await what it needs before."
            )
        return result, Content(data, self._dump(data))

    def _settling(
        self,
        newest: Snapshot | None,
        function: Function[Result] | None,
        ours: Content | None = None,
    ) -> Verb[Result | None]:
        """Store what the session was made into, and what the function makes of it.

        Compares and sets, until nobody else has been faster. Each attempt begins with the session
        as it is then: another task of the request may have changed it, or stored it.
        """
        waits = pauses()
        while True:
            base = self._current()
            if base is None or newest is None:
                raise UpdateError("the session is gone")
            ours = ours or Content(base.data, self._dump(base.data))
            if not newest.opened:
                return (yield from self._settling_elsewhere(base, ours, function))
            merged = self._merged(base, newest, ours)
            result, content = self._applied(function, merged)
            update, written = self._update(newest, content)
            if (yield operations.update(newest.document_id, newest.revision, update)):
                self._settled(Attempt(base, ours, content, written))
                return result
            yield next(waits)
            newest, ours = (yield from self._reading()), None

    def _settling_elsewhere(
        self, base: Snapshot, ours: Content, function: Function[Result] | None
    ) -> Verb[Result | None]:
        """Store the session under a new key: a document that does not open may open for another
        host, or be evidence, and stays.
        """
        result, content = self._applied(function, ours)
        if content.data and content.body != base.body:
            self._bring_up_to_date(ours.data, ours, content)
            yield from self._creating()
        return result

    def _cycling(self) -> Verb[None]:
        data = yield from self._data()
        key, base = self.session_key, self._current()
        moved = yield from self._creating(base)  # first: a crash between the two loses nothing
        if key is None or not moved or (base and not base.opened):
            return
        try:
            yield from self._leaving(key, base, data)
        except UpdateError:
            yield from self._deleting()  # or signing in would go through all the same
            self._session_key, self._snapshot = key, base
            raise

    def _leaving(self, key: str, base: Snapshot | None, data: dict[str, Any]) -> Verb[None]:
        """Delete the session under its old key; what others stored there moves to the new one."""
        new = self._snapshot
        assert new is not None
        ours = content = Content(data, new.body)
        if base is None or base.replaced:
            base, revision = None, None
        else:
            revision = base.revision
        waits = pauses()
        while True:
            if (yield from self._deleting(key, revision)):
                self._bring_up_to_date(data, ours, content)
                self._wrote(replace(new, data=data))
                return
            newest = (yield from self._finding(key)) if base else None
            if base is None or newest is None:
                if documents.user_id(data) is not None:
                    raise UpdateError("the session is gone")
                return  # an anonymous one may be: two clicks on "sign in" do that
            if not newest.opened:
                return
            content = self._merged(base, newest, ours)
            update, written = self._update(new, content)
            if not (yield operations.update(new.document_id, new.revision, update)):
                raise UpdateError("the session is gone")
            new, revision = written, newest.revision
            yield next(waits)

    def _flushing(self) -> Verb[None]:
        self.clear()
        yield from self._deleting()
        self._session_key = None

    @staticmethod
    def _clearing_expired() -> Verb[int]:
        """Delete what has expired, in batches, and return how many sessions that were.

        By ranges of ids, since any number of sessions may expire in one millisecond.
        """
        yield operations.ping()
        now, after, count = dates.utc_now(), None, 0
        while True:
            edge = yield operations.find_expired(now, after, skip=EXPIRED_BATCH - 1)
            removed: int = yield operations.delete_expired(now, after, up_to=edge)
            count += removed
            if edge is None:
                return count
            after = edge
