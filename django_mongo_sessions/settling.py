"""How a write that others may overtake is settled: compare and set, merge, again.

No I/O happens here.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.attempts import pauses
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.snapshots import Attempt, Content, Snapshot
from django_mongo_sessions.steps import SessionSteps

Result = TypeVar("Result")
Function = Callable[[dict[str, Any]], Result]


class SessionSettling(SessionSteps):
    """What the verbs do that write over what is stored."""

    def _reading(self) -> Verb[Snapshot | None]:
        """Read the newest of the session; one of which nothing was known replaces it."""
        before = self._current()
        waits = pauses()
        while (newest := (yield from self._finding())) is None and self._left:
            yield next(waits)
        if newest:
            self._recognized(newest)
        known = self._current()
        if newest and known is None and newest.key == self.session_key:
            self._snapshot = newest._replace(data=self._session_cache, replaced=True)
        if known is None or known is before:
            return newest
        # Another task of the request has stored it while we asked, perhaps under a new key.
        is_newer = newest and newest.key == known.key and newest.revision >= known.revision
        return newest if is_newer else known

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
            if newest.opened:
                result, content = self._applied(function, self._merged(base, newest, ours))
                update, written = self._update(newest, content)
                attempt = Attempt(base, newest, ours, content, written)
                before, self._unanswered = self._unanswered, attempt
                if (yield from self._updating(newest, update, written)):
                    self._settled(attempt)
                    return result
                self._unanswered = before
            else:
                result, content = self._applied(function, ours)
                if (yield from self._settling_elsewhere(base, content)):
                    return result
            yield next(waits)
            newest, ours = (yield from self._reading()), None

    def _settling_elsewhere(self, base: Snapshot, content: Content) -> Verb[bool]:
        """Store the session under a new key: a document that does not open may open for another
        host, or be evidence, and stays.
        """
        if not content.data or content.body == base.body:
            return True
        return (yield from self._creating(content))
