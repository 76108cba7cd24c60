"""Each verb of a session, once, as a generator of operations. No I/O happens here.

A verb never touches `self._session`, which hides I/O: it asks `yield from self._data()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import DuplicateKeyError

from django_mongo_sessions import codec, dates, documents, operations
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.state import SessionState, Snapshot

EXPIRED_BATCH = 1_000  # documents, whose removal takes some tens of milliseconds

_NEW_KEY_ATTEMPTS = 8


class SessionVerbs(SessionState):
    """The verbs. `SessionStore` adds who drives them, and what follows an insert."""

    _after_insert: Callable[[], Verb[None]]

    # Reading

    def _finding(self) -> Verb[Snapshot | None]:
        """Read the session's document; None where there is none that lives."""
        key, document_id = self.session_key, documents.stored_id(self.session_key)
        if key is None or document_id is None:
            return None
        document = yield operations.find(document_id, dates.utc_now())
        return None if document is None else self._opened(key, document_id, document)

    def _loading(self) -> Verb[Snapshot | None]:
        """Read the session's document, and drop a key that has none."""
        key = self.session_key
        snapshot = yield from self._finding()
        # A session that holds data keeps its key: saved without one, it would come back to life.
        # And while we asked, another task of the request may have moved it to a new key.
        if snapshot is None and self.session_key == key and not hasattr(self, "_session_cache"):
            self._session_key = None
        return snapshot

    def _data(self, no_load: bool = False) -> Verb[dict[str, Any]]:
        """Return the session's dict, loaded where it is not there yet."""
        self.accessed = True
        if not hasattr(self, "_session_cache"):
            load = self.session_key is not None and not no_load
            snapshot = (yield from self._loading()) if load else None
            # Another task of the request may have loaded meanwhile, and changed what it got.
            if not hasattr(self, "_session_cache"):
                self._snapshot = snapshot
                self._session_cache = {} if snapshot is None else snapshot.data
        return self._session_cache

    def _existing(self, session_key: str | None) -> Verb[bool]:
        document_id = documents.stored_id(session_key)
        if document_id is None:
            return False
        there: bool = yield operations.exists(document_id, dates.utc_now())
        return there

    # Writing

    def _creating(self) -> Verb[None]:
        data = yield from self._data(no_load=True)
        keys = (self._get_new_session_key() for _ in range(_NEW_KEY_ATTEMPTS))
        yield from self._inserting(keys, data)
        self.modified = True  # as Django's stores do, and code relies on it

    def _saving(self, must_create: bool = False) -> Verb[None]:
        if self.session_key is None:
            yield from self._creating()
            return
        data = yield from self._data(no_load=must_create)
        if must_create:
            yield from self._inserting([self.session_key], data)
            return
        stored = self._current() or (yield from self._finding())
        body = codec.dump(self.serializer, data)
        changed = stored is None or body != stored.body or not stored.fresh
        if not changed and self._has_just_written():
            return
        while stored is not None and stored.opened:
            if changed:
                update, written = self._replaced(stored, data, body)
            else:
                update, written = self._touched(stored), stored
            if (yield operations.update(stored.document_id, stored.revision, update)):
                self._wrote(written)
                return
            stored = yield from self._finding()
        if stored is None:
            raise UpdateError("the session is gone")
        # A document that does not open may open for another host, or be evidence: it stays.
        if data and changed:
            yield from self._creating()

    def _inserting(self, keys: Iterable[str | None], data: dict[str, Any]) -> Verb[None]:
        """Store a new session under the first of the keys that can be had."""
        for key in keys:
            document_id = documents.stored_id(key)
            if key is None or document_id is None:
                continue
            document, written = self._new(key, document_id, data)
            try:
                yield operations.insert(document)
            except DuplicateKeyError as error:
                if "_id" not in (error.details or {}).get("keyPattern", "_id"):
                    raise  # somebody else's unique index, which no other key would satisfy
                continue
            self._session_key = key
            self._wrote(written)
            yield from self._after_insert()
            return
        raise CreateError("every session key that was tried is taken, or is none of this store's")

    def _deleting(self, session_key: str | None = None) -> Verb[bool]:
        """Delete a session, and answer whether it was there."""
        key = self.session_key if session_key is None else session_key
        document_id = documents.stored_id(key)
        if document_id is None:
            return False
        if key == self.session_key:
            self._forget_write()  # or the next save would take it to be there still
        there: bool = yield operations.delete(document_id)
        return there

    def _cycling(self) -> Verb[None]:
        data = yield from self._data()
        key, stored = self.session_key, self._current()
        yield from self._creating()  # first: a crash between the two loses nothing
        if key is None or (stored is not None and not stored.opened):
            return
        if not (yield from self._deleting(key)) and documents.user_id(data) is not None:
            # Signed out meanwhile. An anonymous one may be gone: two clicks on "sign in" do that.
            yield from self._deleting()
            raise UpdateError("the session is gone")

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
