"""A session in memory, and what MongoDB is known to hold of it.

Everything that changes what is known is a method of `TrackedSession`. The other modules of this
package call these methods and assign to nothing.

What is known is a `Snapshot`: the stored session as it was last read or written. It is valid only
for the key and the dict object that it was loaded with, and then it is the session's `_baseline`:

    nothing known ──_adopt()──▶ baseline ◀──────────────┐
         │                        │ ▲                   │
         └──_inserted()───────────┤ └─_acknowledge()────┤ also under a new key
                                  │                     │
              clear() makes it a baseline to replace ───┘

A write is remembered from `_begin()` until it is known to be applied (`_acknowledge()`) or not
applied (`_withdraw()`). In between its reply may be lost; when the document is read again
(`_reread()`), `_recognize()` finds out by its `write_id` whether it arrived. A new document is a
stray from `_expect_stray()` until the session takes over its key. If it never does, the next write
removes the document, but not while the write that made it is under way (`_needing()`). The
documents of the session's former keys are remembered until flush(). If it is unknown whether a
pointer has replaced the last one, the next write finishes the move (`_finish_move()`).

The tasks of one request may share a session. The runner lets only one of them at a time run steps,
so between two yields no other task loads, stores, moves or flushes the session. But a task may
change the data in memory at any time, or clear() it. So a step that continues after a yield never
replaces the dict: it changes only the keys that were stored differently (`_catch_up()`). A task may
also be cancelled at any yield. So each transition leaves nothing to be done by the next one: the
one that changes the key also sets `modified`, so that the browser gets the cookie.

A subclass's own methods are steps of a verb too (`overriding.py`). While its load() runs, what was
loaded waits to be taken over (`_loaded()`, `_adopt_overridden()`); while its create() or save()
stores the session under a new key, the session has that key already (`_trying()`, `_moving()`).

A blocking method cannot wait for its turn. If one is called in the middle of another task's steps,
or in another thread, those steps still never lose what is stored, since each write names the one
that it replaces; and a flush() ends them with UpdateError (`_guard()`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from django.contrib.sessions.backends.base import VALID_KEY_CHARS, SessionBase, UpdateError
from django.core.signing import JSONSerializer
from django.http import HttpRequest
from django.utils.crypto import get_random_string

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection.breaker import OPEN, Gate
from django_mongo_sessions.engine import merging, overriding, predecessors
from django_mongo_sessions.engine.overriding import twin
from django_mongo_sessions.engine.predecessors import OldSession
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.mongo.tracebacks import forget_values
from django_mongo_sessions.storage import codec, dates, documents

WRITE_INTERVAL = 1.0  # seconds within which a store does not write an unchanged session again

# At most one of the writes on a baseline is applied, so older ones are of little use.
_MAX_UNCONFIRMED = 8

security_logger = logging.getLogger("django.security.SuspiciousSession")


class Snapshot(NamedTuple):
    """The stored session as it was last read or written.

    Valid only for the key and the dict object it was loaded with.
    """

    key: str
    document_id: bytes
    data: dict[str, Any]
    created_at: datetime
    seen_at: datetime  # as read; this store's own writes do not count
    body: bytes
    user_id: str | None = None
    revision: int = 0
    write_id: bytes = b""  # the identity of the write that stored it, or of our last attempt
    sealed_with_current_key: bool = True
    readable: bool = True  # False: the document was rejected, and nothing else is known of it
    cleared: bool = False  # True: the next write replaces what is stored, without a merge
    expires_at: datetime = dates.EARLIEST  # as this store has written it
    recorded: Mapping[str, Any] = MappingProxyType({})  # documents.RECORDED, as stored
    key_id: str | None = None  # of the key that encrypts it, as stored
    adopted: datetime | None = None  # None: it was born here, so no other engine has it
    there_until: datetime | None = None  # when it ends in the old engine, if it is still there

    @property
    def last_write(self) -> tuple[bytes, bytes, int]:
        """What names the write that an update replaces: its document, its id and its revision."""
        return self.document_id, self.write_id, self.revision

    def holds(self, content: Content) -> bool:
        """Return whether this content is what is stored, sealed with the current key."""
        return self.body == content.body and self.sealed_with_current_key and not self.cleared


class Client(Protocol):
    """Who has sent the request that a session belongs to."""

    @property
    def request(self) -> HttpRequest | None:
        """The request, while it lives."""

    def describe(self) -> Mapping[str, str | None]:
        """Return the `user_agent` and the `address`, each None if it is not known."""


class Content(NamedTuple):
    """What to store: the data, and the same data serialized."""

    data: dict[str, Any]
    body: bytes


class Write(NamedTuple):
    """A write that is sent to MongoDB."""

    baseline: Snapshot  # what was known when it was sent
    replaces: Snapshot  # the stored session that it replaces
    ours: Content  # the session in memory when it was sent
    content: Content  # what it stores
    expected: Snapshot  # what is known once it is applied


class Move(NamedTuple):
    """A move to a new key, whose last write may not have been applied."""

    old: Snapshot  # what was last known of the session under its old key
    pointer: bytes  # the `write_id` of what takes its place
    began: float  # time.monotonic()


@dataclass
class Known:
    """What this store knows of the stored session."""

    snapshot: Snapshot | None = None
    last_write: float | None = None  # time.monotonic() of this store's own last write
    unconfirmed_writes: list[Write] = field(default_factory=list)
    # Documents that may be stored under a key that no session uses: the `write_id` of each, by id.
    strays: dict[bytes, bytes] = field(default_factory=dict)
    # Those of them that a write which is under way is about to need.
    needed: set[bytes] = field(default_factory=set)
    # The former documents of the session, by id: the `write_id` of the pointer that has replaced
    # each of them, or may have; None if there is none.
    left: dict[bytes, bytes | None] = field(default_factory=dict)
    unfinished_move: Move | None = None  # if there is one, the browser's key may open nothing
    # The session under its former key, while a subclass's own methods store it under another.
    origin: Snapshot | None = None
    is_moving: bool = False  # then a new key takes the place of the origin's
    loaded: Snapshot | None = None  # by a load() whose caller has not used it yet
    flushes: int = 0


class TrackedSession(SessionBase):
    """Django's session in memory, and what is known of the stored one.

    `SessionStore` adds the methods that do I/O.
    """

    _session_cache: dict[str, Any]
    _modified = False
    _ignored_body: bytes | None = None  # the body when `modified` was set to False
    _rejection_logged = False
    _methods: ClassVar[dict[str, overriding.Method]] = {}  # that subclasses may override
    _gate: Gate = OPEN  # the middleware puts a RequestBreaker here
    _client: Client | None = None  # who has sent the request, if that is known
    # What is stored of the password of whoever has signed in, if that is known: see hash_of().
    _user_hashes: Collection[bytes] | None = None
    # The signed cookie that the old engine has made, by the key that was derived from it.
    _cookies: Mapping[str, str] = MappingProxyType({})

    def __init__(self, session_key: str | None = None) -> None:
        self._known = Known()
        # Only a signed cookie contains a colon. Any other key needs no translation, which would
        # read settings with each request.
        if isinstance(session_key, str) and ":" in session_key and conf.PREDECESSOR is not None:
            session_key, cookie = predecessors.translated(session_key)
            if cookie != session_key:
                self._cookies = {session_key: cookie}
        super().__init__(session_key)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        overriding.refuse(cls)

    def _overrides(self, name: str) -> bool:
        """Return whether a subclass overrides this method, or its twin that is awaited."""
        return overriding.is_overridden(self, self._methods[name])

    def to_document(self, data: dict[str, Any]) -> Mapping[str, Any]:
        """Return extra top-level fields to store with the session, for a project's own queries.

        Override it to derive them from `data`, the session's dict. It must do no I/O, because
        blocking and awaited methods both call it, at each insert and at each save that changes
        something. A field with the value None is removed. Names of the engine's own fields, and
        names that begin with `$` or contain a `.`, raise ValueError.
        """
        return {}

    def impersonator_id(self, data: Mapping[str, Any]) -> str | None:
        """Return the id of whoever uses the session in the user's name; None if nobody does.

        Such a session is not one of the user's own: it is neither listed nor limited, and does not
        end with theirs. This is what django-hijack stores; override it for another package. It must
        do no I/O.
        """
        history = data.get("hijack_history")
        return str(history[0]) if isinstance(history, list) and history else None

    def from_predecessor(
        self, old: OldSession, data: dict[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return what to store of a session of the engine that PREDECESSOR names.

        That is its data, and extra top-level fields as for to_document(). By default the data are
        stored unchanged, without extra fields. Override it if the old engine keeps columns of its
        own: `old.row` is the row that it has stored, or None if it has no model; `old.store` is its
        store, `old.data` its data, and `old.ends` a datetime in UTC. It must do no I/O. The next
        save sets the fields that to_document() returns.
        """
        return data, {}

    @property
    def _itself(self) -> TrackedSession:
        """The session itself, also if a proxy of it is asked."""
        return self

    # The data in memory

    @property
    def modified(self) -> bool:
        """Whether there is something to save; with TRACK_NESTED, also inside values.

        With TRACK_NESTED it raises what save() raises for a value that the serializer cannot store.
        """
        return self._modified or self._changed_body() is not None

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified, self._ignored_body = value, None
        if not value:
            self._ignored_body = self._changed_body()

    def _changed_body(self) -> bytes | None:
        """Return the body of a session that has changed inside values, if that is tracked."""
        try:
            return self._nested_change() if conf.TRACK_NESTED else None
        except Exception as error:
            forget_values(error)
            raise

    def _nested_change(self) -> bytes | None:
        baseline = self._baseline
        if baseline is None or not baseline.readable:
            return None
        body = self._dump(self._session_cache)
        known = (
            [baseline.body] if self._ignored_body is None else [baseline.body, self._ignored_body]
        )
        if body in known:
            return None
        # With Django's JSON, other bytes are other data.
        is_same = self.serializer is not JSONSerializer and any(
            self._holds_same(body, other) for other in known
        )
        return None if is_same else body

    def _holds_same(self, body: bytes, base: bytes) -> bool:
        return not merging.changes(self._dump, self._load, self._load(base), self._load(body))

    def _dump(self, data: Mapping[str, Any]) -> bytes:
        return codec.dump(self.serializer, data)

    def _load(self, body: bytes) -> dict[str, Any]:
        return codec.load(self.serializer, body)

    def _content(self, data: dict[str, Any] | None = None) -> Content:
        """Return these data, or the session's, with their serialized form."""
        data = self._session_cache if data is None else data
        return Content(data, self._dump(data))

    def _get_new_session_key(self) -> str:
        # Django first asks whether the key is free. Here the insert finds out, since `_id` is
        # unique, and only a subclass's own exists() is asked.
        while True:
            key = get_random_string(32, VALID_KEY_CHARS)
            if not self._overrides("exists") or not self.exists(key):
                return key

    @twin
    async def _aget_new_session_key(self) -> str:
        while True:
            key = get_random_string(32, VALID_KEY_CHARS)
            if not self._overrides("exists") or not await self.aexists(key):
                return key

    # What is known, and every change of it

    @property
    def _baseline(self) -> Snapshot | None:
        """The snapshot, if it is valid for the session's key and dict."""
        known = self._known.snapshot
        if known is None or known.key != self.session_key:
            return None
        return known if known.data is getattr(self, "_session_cache", None) else None

    @property
    def _origin(self) -> Snapshot | None:
        """What is known of the session under its former key, if it is stored under another now."""
        return self._known.origin or self._baseline

    def _loaded(self, snapshot: Snapshot | None) -> None:
        """Remember what was loaded, in case a subclass's load() returns it."""
        self._known.loaded = snapshot

    def _adopt(self, snapshot: Snapshot | None) -> None:
        """Use what was loaded, unless the session has data by now."""
        self._known.loaded = None
        if not hasattr(self, "_session_cache"):
            self._known.snapshot = snapshot
            self._session_cache = {} if snapshot is None else snapshot.data
            self._replace_cookie()

    def _replace_cookie(self) -> None:
        """Let the browser get the session's key, if it has sent the old engine's signed cookie."""
        baseline = self._baseline
        if not self._cookies or conf.PREDECESSOR_KEEPS:  # hosts with the old engine read no key
            return
        if baseline is not None and baseline.readable:
            self._modified = True

    def _name_elsewhere(self, key: str) -> str:
        """Return what the old engine calls the session of a key."""
        return self._cookies.get(key, key)

    def _was_born_here(self, key: str | None) -> bool:
        """Return whether it is known that the old engine never had the session of a key."""
        baseline = self._baseline
        return (
            baseline is not None
            and baseline.key == key
            and baseline.readable
            and baseline.adopted is None
        )

    def _adopt_overridden(self, data: dict[str, Any]) -> None:
        """Take over what a subclass's load() has returned.

        If that is another dict than was loaded, its differences are unsaved changes. An empty one
        refuses the stored session: the next save replaces it, without a merge.
        """
        snapshot, self._known.loaded = self._known.loaded, None
        if snapshot is not None and snapshot.data is not data:
            snapshot = snapshot._replace(data=data, cleared=not data)
        if not hasattr(self, "_session_cache"):
            self._known.snapshot, self._session_cache = snapshot, data
            self._replace_cookie()

    def _drop_key(self) -> None:
        """Forget a key that has no document.

        A session with data keeps its key: saved without one, it would come back to life.
        """
        if not hasattr(self, "_session_cache"):
            self._session_key = None

    def _reread(self, newest: Snapshot) -> None:
        """Record the stored session as it was read again.

        If nothing was known of it, the session in memory replaces it.
        """
        self._recognize(newest)
        if self._baseline is None:
            self._known.snapshot = newest._replace(data=self._session_cache, cleared=True)

    def _recognize(self, newest: Snapshot) -> None:
        """Acknowledge a write whose reply was lost, if it is what the server holds."""
        for write in self._known.unconfirmed_writes:
            if write.expected.write_id == newest.write_id:
                self._acknowledge(write)
                return

    def _begin(self, write: Write) -> None:
        """Remember a write until it is known whether it was applied."""
        self._known.unconfirmed_writes.append(write)
        del self._known.unconfirmed_writes[:-_MAX_UNCONFIRMED]

    def _withdraw(self, write: Write) -> None:
        """Record that a write was not applied. Another one may have been, and has removed it."""
        writes = self._known.unconfirmed_writes
        writes[:] = [each for each in writes if each is not write]

    def _acknowledge(self, write: Write) -> None:
        """Record that a write was applied, and update the session in memory to match."""
        baseline, _, ours, content, expected = write
        if expected.key != baseline.key:  # else a blocking method may have moved it since
            self._take_over_key(expected)
        self._known.unconfirmed_writes.clear()
        live = self._session_cache
        if live is not baseline.data:  # cleared since
            self._known.snapshot = expected._replace(data=live, cleared=True)
        elif self._known.snapshot is baseline:  # else a blocking method has written since
            body = content.body
            if content is not ours:
                body = self._catch_up(live, ours, content)
            if expected.data is not live or expected.body is not body:
                expected = expected._replace(data=live, body=body)
            self._wrote(expected)

    def _moved(self, write: Write, pointer: bytes, is_confirmed: bool = True) -> None:
        """Record that the new key is the session's.

        `pointer` is the `write_id` of what takes the place of the old document. If that is not
        confirmed, the old key may still open the session too.
        """
        self._acknowledge(write)
        self._known.left[write.replaces.document_id] = pointer
        if not is_confirmed:
            self._known.unfinished_move = Move(write.replaces, pointer, time.monotonic())

    @property
    def _has_moved(self) -> bool:
        """Whether the session had another key, which may open nothing any more."""
        return any(self._known.left.values())

    def _bring_along(self, move: Move, newest: Snapshot) -> None:
        """Merge what another request has stored under the old key, as unsaved changes."""
        baseline = self._baseline
        if baseline is not None and not baseline.cleared:
            ours = self._content()
            self._catch_up(self._session_cache, ours, self._merged(move.old, newest, ours))
        self._known.unfinished_move = move._replace(old=newest)

    def _finish_move(self) -> None:
        """Record that the old key no longer opens the session."""
        self._known.unfinished_move = None

    @property
    def _replaced(self) -> Snapshot | None:
        """The session that a new document replaces; None if the document is an additional one."""
        return self._known.origin if self._known.is_moving else None

    @contextmanager
    def _moving(self, origin: Snapshot) -> Iterator[None]:
        """Let a subclass's own methods store the session under a new key, instead of `origin`'s."""
        known = self._known
        known.origin, known.is_moving = origin, True
        try:
            yield
        finally:
            known.origin, known.is_moving = None, False

    @contextmanager
    def _trying(self, key: str) -> Iterator[None]:
        """Let a subclass's own save() store the session under a new key.

        If that fails, the session has its former key again.
        """
        known, former = self._known, self._session_key
        origin, known.origin = known.origin, known.origin or self._baseline
        self._session_key = key
        try:
            yield
        except BaseException:
            self._session_key = former
            raise
        finally:
            known.origin = origin
        self._modified = True

    def _inserted(self, expected: Snapshot, ours: Content, content: Content) -> None:
        """Record that a new document was inserted, and take over its key and its content."""
        former = self._origin
        if former is not None and former.readable:
            pointer = documents.new_write_id() if self._known.is_moving else None
            self._known.left[former.document_id] = pointer
            if pointer is not None:
                self._known.unfinished_move = Move(former, pointer, time.monotonic())
        self._take_over_key(expected)
        body = content.body
        if body != ours.body:
            body = self._catch_up(ours.data, ours, content)
        self._wrote(expected._replace(data=ours.data, body=body))

    def _wrote(self, snapshot: Snapshot) -> None:
        self._known.snapshot, self._known.last_write = snapshot, time.monotonic()
        self._ignored_body = None

    def _take_over_key(self, expected: Snapshot) -> None:
        self._known.strays.pop(expected.document_id, None)
        if self._session_key != expected.key:
            self._session_key, self._modified = expected.key, True

    def _expect_stray(self, snapshot: Snapshot) -> None:
        """Remember a document that is not, or not yet, the session's own."""
        self._known.strays[snapshot.document_id] = snapshot.write_id

    @contextmanager
    def _needing(self, document_id: bytes) -> Iterator[None]:
        """Keep other tasks and threads from removing a new document as a stray."""
        needed = self._known.needed
        needed.add(document_id)
        try:
            yield
        finally:
            needed.discard(document_id)

    def _forget_stray(self, document_id: bytes) -> None:
        """Record that a document does not exist."""
        self._known.strays.pop(document_id, None)

    def _change(self, ours: Content, content: Content) -> None:
        """Change the session in memory to this content, as unsaved changes."""
        self._catch_up(self._session_cache, ours, content)
        self.modified = True

    def _forget_last_write(self) -> None:
        self._known.last_write = None

    def _wrote_recently(self) -> bool:
        """Return whether a save without changes may be skipped, since the last write is recent.

        It may not if a move is unfinished.
        """
        at, move = self._known.last_write, self._known.unfinished_move
        return at is not None and move is None and time.monotonic() - at < WRITE_INTERVAL

    def clear(self) -> None:
        """Empty the session. The next save replaces what is stored."""
        baseline = self._baseline
        super().clear()
        if baseline is not None:
            self._known.snapshot = baseline._replace(data=self._session_cache, cleared=True)

    def _begin_flush(self) -> None:
        """Empty the session, and let writes of other tasks and threads end with UpdateError."""
        self.clear()
        self._known.flushes += 1

    def _flushed(self) -> None:
        """Forget the key of a session that was deleted, and all that was known of it."""
        self._known = Known(flushes=self._known.flushes + 1)
        self._session_key = None

    def _guard(self) -> Callable[[], None]:
        """Return a function that raises UpdateError if the session was flushed since."""
        flushes = self._known.flushes

        def check() -> None:
            if self._known.flushes != flushes:
                raise UpdateError("The session was deleted.")

        return check

    def _log_rejection(self, document_id: bytes, error: Exception) -> None:
        """Log once that the session's document was rejected."""
        if not self._rejection_logged:
            self._rejection_logged = True
            security_logger.warning("Session %s rejected: %s", document_id.hex(), error)

    # Merging

    def _merged(self, baseline: Snapshot, newest: Snapshot, ours: Content) -> Content:
        """Return our content, merged with what other requests have stored since the baseline.

        Raises SessionConflict if both have changed a key and ON_CONFLICT is "raise".
        """
        if newest is baseline or baseline.cleared:
            return ours
        loaded = self._load(baseline.body) if baseline.readable else {}
        merged = merging.merge(self._dump, self._load, loaded, newest.data, self._load(ours.body))
        if not merged.changes:
            return Content(newest.data, newest.body)
        if merged.conflicts and conf.ON_CONFLICT == "raise":
            named = ", ".join(map(repr, merged.conflicts))
            raise SessionConflict(f"Another request has changed {named} too.", merged.conflicts)
        return Content(merged.data, self._dump(merged.data))

    def _catch_up(self, live: dict[str, Any], ours: Content, content: Content) -> bytes:
        """Update the live dict to the stored content, and keep later changes.

        Returns the body of the dict if that equals what was stored, since its keys may be in
        another order, and otherwise the stored body.
        """
        # Loaded anew, since `content.data` may be the live dict.
        before, after = self._load(ours.body), self._load(content.body)
        now = self._load(self._dump(live))
        merged = merging.merge(self._dump, self._load, before, after, now).data
        merging.bring_up_to_date(self._dump, self._load, live, now, merged)
        has_changed = merging.changes(self._dump, self._load, after, merged)
        return content.body if has_changed else self._dump(live)

    # When it ends

    def _latest_end(self) -> datetime:
        return latest_end(began(self._baseline, self._session_cache, dates.utc_now()))

    def _is_touch_due(self) -> bool:
        """Return whether the session was read, and not written for TOUCH_INTERVAL."""
        baseline, interval = self._baseline, conf.TOUCH_INTERVAL
        if interval is None or baseline is None or not baseline.readable:
            return False
        return (dates.utc_now() - baseline.seen_at).total_seconds() >= interval


def began(stored: Snapshot | None, data: Mapping[str, Any], now: datetime) -> datetime:
    """Return when a session with these data began: signing in begins a new one."""
    user_id = documents.user_id(data)
    if stored is None or (user_id is not None and user_id != stored.user_id):
        return now
    return stored.created_at


def latest_end(start: datetime) -> datetime:
    """Return when a session that began then ends at the latest, even if it is always used."""
    age = conf.ABSOLUTE_AGE
    return dates.LATEST if age is None else dates.add_seconds(start, age)
