"""The verbs, each as a generator of operations. No I/O happens here.

No update is lost: those that write over what is stored compare and set by the revision, and merge
what others have stored.
"""

from __future__ import annotations

from typing import TypeVar

from bson.errors import InvalidBSON
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import PyMongoError

from django_mongo_sessions import dates, documents, operations
from django_mongo_sessions.attempts import pauses
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.refusals import may_be_done
from django_mongo_sessions.settling import Function, SessionSettling
from django_mongo_sessions.snapshots import Attempt, Content, Snapshot

Result = TypeVar("Result")

EXPIRED_BATCH = 1_000  # documents, whose removal takes some tens of milliseconds


class SessionVerbs(SessionSettling):
    """The verbs. `SessionStore` adds who drives them."""

    def _existing(self, session_key: str | None) -> Verb[bool]:
        document_id = documents.stored_id(session_key)
        if document_id is None:
            return False
        try:
            there: bool = yield operations.exists(document_id, dates.utc_now())
        except InvalidBSON:  # its date is none, and it is there
            return True
        return there

    def _saving(self, must_create: bool = False) -> Verb[None]:
        if self.session_key is None and (yield from self._creating()):
            return
        data = yield from self._data(no_load=must_create)
        if must_create:
            ours = Content(data, self._dump(data))
            yield from self._inserting([self.session_key], ours, ours)
            return
        base = self._current() or (yield from self._reading())
        ours = Content(self._session_cache, self._dump(self._session_cache))
        if base and base.holds(ours) and self._has_just_written():
            return
        yield from self._settling(base, None, ours)

    def _mutating(self, function: Function[Result]) -> Verb[Result | None]:
        data = yield from self._data()
        if self.session_key is None:
            ours = Content(data, self._dump(data))
            result, content = self._applied(function, ours)
            if (yield from self._creating(content)):
                return result
        newest = yield from self._reading()
        result = yield from self._settling(newest, function)
        self.modified = True  # the cookie moves with the document
        return result

    def _cycling(self) -> Verb[None]:
        yield from self._data()
        if self.session_key is None and (yield from self._creating()):
            return
        if self._current() is None:
            yield from self._reading()
        base = self._current()
        if base is None and documents.user_id(self._session_cache) is not None:
            raise UpdateError("the session is gone")
        if base is None or not base.opened:
            yield from self._creating()
            return
        yield from self._moving(base)
        self.modified = True
        yield from self._after_insert()

    def _moving(self, base: Snapshot) -> Verb[None]:
        """Store the session under a new key too, and then delete it under its old one.

        That is its key until then: whatever others store meanwhile, other tasks of the request
        among them, is stored there, and moves along.
        """
        ours = Content(base.data, self._dump(base.data))
        new = yield from self._storing(self._new_keys(), ours, base)
        attempt, waits = Attempt(base, base, ours, ours, new), pauses()
        try:
            while not (yield from self._leaving(attempt)):
                yield next(waits)
                newest = yield from self._reading()
                known = self._current()
                if known is None or known.key != base.key:
                    break  # another task has moved it, or flushed it
                if newest is None and documents.user_id(attempt.content.data) is not None:
                    raise UpdateError("the session is gone")
                if newest is None or not newest.opened:
                    self._settled(attempt)  # two clicks on "sign in" do that
                    break
                attempt = yield from self._following(known, newest, attempt.written)
        except UpdateError:
            yield from self._deleting(new.key)  # or signing in would go through all the same
            raise
        if self.session_key != new.key:
            yield from self._deleting(new.key)

    def _leaving(self, attempt: Attempt) -> Verb[bool]:
        """Delete the session under its old key, if nobody has stored it meanwhile."""
        self._left += 1
        try:
            left = yield from self._deleting(attempt.newest.key, attempt.newest.revision)
            if left:
                self._settled(attempt)
            return left
        except (PyMongoError, GeneratorExit) as error:
            if may_be_done(error):
                self._settled(attempt)  # the new key is the one that opens the session in any case
            raise
        finally:
            self._left -= 1

    def _following(self, base: Snapshot, newest: Snapshot, new: Snapshot) -> Verb[Attempt]:
        """Store under the new key what was stored under the old one meanwhile."""
        ours = Content(base.data, self._dump(base.data))
        content = self._merged(base, newest, ours)
        update, written = self._update(new, content)
        if not (yield from self._updating(new, update, written)):
            raise UpdateError("the session is gone")
        return Attempt(base, newest, ours, content, written)

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
