"""What a store knows of its session between two verbs. No I/O happens here."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.utils.crypto import get_random_string

from django_mongo_sessions import dates, merging, redaction, refusals
from django_mongo_sessions.conf import conf
from django_mongo_sessions.exceptions import ServerUnavailable, SessionConflict
from django_mongo_sessions.mapper import SessionMapper
from django_mongo_sessions.snapshots import Attempt, Content, Snapshot

WRITE_INTERVAL = 1.0  # seconds in which a store that has written does not write the same again


class SessionState(SessionMapper):
    """A session in memory, and what the server is known to hold of it."""

    _session_cache: dict[str, Any]
    _snapshot: Snapshot | None = None
    _written_at: float | None = None  # by time.monotonic(): this store's own last write
    _modified = False
    _unanswered: Attempt | None = None  # the last write, until its answer arrives
    _left = 0  # how many tasks wait to hear that the session is gone from its old key
    _passed_over: bytes | None = None  # the body at `modified = False`
    _is_of_a_request = False  # then MongoDB is not asked again once it was found to be away
    _outage: str | None = None  # what it was found to be away by

    def _get_new_session_key(self) -> str:
        # Django asks first whether it is taken; the insert on the unique _id will tell.
        return get_random_string(32, VALID_KEY_CHARS)

    async def _aget_new_session_key(self) -> str:
        return self._get_new_session_key()

    @property
    def modified(self) -> bool:
        """Whether there is something to save; with TRACK_NESTED, also inside of values.

        Then it raises what save() raises for a value that the serializer cannot take.
        """
        return self._modified or self._changed_body() is not None

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified, self._passed_over = value, None
        if not value:
            self._passed_over = self._changed_body()

    def _changed_body(self) -> bytes | None:
        """Return the body of a session that has changed inside of values, where that is tracked."""
        try:
            return self._nested_change() if conf.TRACK_NESTED else None
        except Exception as error:
            redaction.forget_values(error)
            raise

    def _nested_change(self) -> bytes | None:
        stored = self._current()
        if stored is None or not stored.opened:
            return None
        body = self._dump(self._session_cache)
        return None if body in (stored.body, self._passed_over) else body

    def clear(self) -> None:
        """Empty the session. What the server holds of it goes with the next save."""
        stored = self._current()
        super().clear()
        if stored is not None:
            self._snapshot = stored._replace(data=self._session_cache, replaced=True)

    def _current(self) -> Snapshot | None:
        """Return the snapshot if it belongs to the session's key and to its very dict."""
        stored = self._snapshot
        if stored is None or stored.key != self.session_key:
            return None
        return stored if stored.data is getattr(self, "_session_cache", None) else None

    def _wrote(self, written: Snapshot) -> None:
        self._snapshot, self._written_at = written, time.monotonic()
        self._passed_over = None

    def _forget_write(self) -> None:
        self._written_at = None

    def _has_just_written(self) -> bool:
        at = self._written_at
        return at is not None and time.monotonic() - at < WRITE_INTERVAL

    def _may_ask(self) -> None:
        """Raise ServerUnavailable if MongoDB was found to be away in the same request."""
        if self._outage is not None:
            raise ServerUnavailable(
                f"MongoDB is away: for this request's session it was asked before "
                f"({self._outage}), and is not asked again."
            )

    def _was_told(self, error: Exception) -> None:
        """Remember an outage for as long as the request lasts."""
        if self._is_of_a_request and self._outage is None and refusals.is_outage(error):
            self._outage = type(error).__name__

    def _latest_end(self) -> datetime:
        """Return when the session that was loaded ends, however busy it is."""
        return self._ends_at_the_latest(
            self._began(self._current(), self._session_cache, dates.utc_now())
        )

    def _is_touch_due(self) -> bool:
        """Return whether the session was read, and was not written to for TOUCH_INTERVAL."""
        stored, interval = self._current(), conf.TOUCH_INTERVAL
        if interval is None or stored is None or not stored.opened:
            return False
        return (dates.utc_now() - stored.seen_at).total_seconds() >= interval

    # What two requests have made of one session

    def _merged(self, base: Snapshot, newest: Snapshot, ours: Content) -> Content:
        """Return ours, with what others have stored since the base.

        Raises SessionConflict where both have changed a key, and ON_CONFLICT says so.
        """
        if newest is base or base.replaced:
            return ours
        loaded = self._load(base.body) if base.opened else {}
        merged = merging.merge(self._dump, loaded, newest.data, self._load(ours.body))
        if merged.conflicts and conf.ON_CONFLICT == "raise":
            named = ", ".join(map(repr, merged.conflicts))
            raise SessionConflict(f"another request has changed {named} too", merged.conflicts)
        return Content(merged.data, self._dump(merged.data))

    def _settled(self, attempt: Attempt) -> None:
        """Know that the server has done it, and let the session show it.

        Another task of the request may have cleared the session meanwhile, or moved it to another
        key, or stored it later than this: then it shows that already.
        """
        base, newest, ours, content, written = attempt
        known = self._current()
        if known is None or known.key != newest.key or known.revision > newest.revision:
            return
        self._session_key, self._unanswered = written.key, None
        if known.data is not base.data:
            self._snapshot = written._replace(data=known.data, replaced=True)
            return
        if content is not ours or known.body != base.body:
            brought = None if known.body == base.body else known.body
            body = self._bring_up_to_date(base.data, ours, content, brought)
            written = written._replace(data=base.data, body=body)
        self._wrote(written)

    def _recognized(self, newest: Snapshot) -> None:
        """Know the last write, if its answer was lost, by what the server holds."""
        if sent := self._unanswered:
            left = sent.written.key, sent.written.revision, sent.content.body
            if (newest.key, newest.revision, newest.body) == left:
                self._settled(sent)

    def _bring_up_to_date(
        self, live: dict[str, Any], ours: Content, content: Content, brought: bytes | None = None
    ) -> bytes:
        """Let the session show what was stored; what it was changed to meanwhile stays.

        But not what another task of the request has brought it up to. Returns the body that the
        session has while it is what was stored: its keys may stand in another order.
        """
        # Not their data, which may be the very dict that the session shows.
        before, after = self._load(ours.body), self._load(content.body)
        now = self._load(self._dump(live))
        if brought is not None:
            now = merging.merge(self._dump, self._load(brought), before, now).data
        merged = merging.merge(self._dump, before, after, now)
        merging.bring_up_to_date(self._dump, self._load, live, merged.data)
        is_stored = merging.same(self._dump, merged.data, after)
        return self._dump(live) if is_stored else content.body
