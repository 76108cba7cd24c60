"""The steps that verbs share: to read and to insert. No I/O happens here.

None of them touches `self._session`, which hides I/O: they ask `yield from self._data()`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from bson.errors import InvalidBSON
from django.contrib.sessions.backends.base import CreateError
from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions import dates, documents, operations
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.snapshots import Attempt, Content, Snapshot
from django_mongo_sessions.writes import SessionWrites

logger = logging.getLogger("django_mongo_sessions")

_NEW_KEY_ATTEMPTS = 8


class SessionSteps(SessionWrites):
    """The steps. `SessionStore` adds what follows an insert."""

    _after_insert: Callable[[], Verb[None]]

    def _finding(self, key: str | None = None) -> Verb[Snapshot | None]:
        """Read the document of a key, or of the session's; None where there is none that lives."""
        key = key or self.session_key
        document_id = documents.stored_id(key)
        if key is None or document_id is None:
            return None
        try:
            document = yield operations.find(document_id, dates.utc_now())
        except InvalidBSON as error:  # it may hold a UUID of too few bytes
            return self._refused(key, document_id, error)
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

    def _touching(self) -> Verb[bool]:
        """Move the expiry of a session that was read, and answer whether that was done.

        It was not where somebody has written to the session since, and so has moved it, where it
        is gone, and where MongoDB did not do it, which is no reason to fail: the next one may.
        """
        stored = self._current()
        if stored is None or stored.replaced or not stored.opened:
            return False
        # The data as they are stored, where they are sealed anew: others may be unsaved.
        data = stored.data if stored.fresh else self._load(stored.body)
        content = Content(data, stored.body)
        update, written = self._update(stored, content)
        try:
            moved = yield from self._updating(stored, update, written)
        except PyMongoError as error:
            logger.warning("The expiry of a session that was read could not be moved: %s", error)
            return False
        if moved:
            written = written._replace(data=stored.data)
            self._settled(Attempt(stored, stored, content, content, written))
        return moved

    def _creating(self, content: Content | None = None) -> Verb[bool]:
        """Store the session, or what a function has made of it, under a new key.

        Answers whether that is the session's now.
        """
        data = yield from self._data(no_load=True)
        ours = Content(data, self._dump(data))
        inserted = yield from self._inserting(self._new_keys(), ours, content or ours)
        self.modified = True  # as Django's stores do, and code relies on it
        return inserted

    def _inserting(self, keys: Iterable[str | None], ours: Content, content: Content) -> Verb[bool]:
        """Store a new session under the first of the keys that can be had, and let it show that.

        Answers False where another task of the request has stored one meanwhile: that one stays.
        """
        before = self.session_key
        written = yield from self._storing(keys, content, self._current())
        if self.session_key != before:
            yield operations.delete(written.document_id)
            return False
        self._session_key = written.key
        body = content.body
        if body != ours.body:
            body = self._bring_up_to_date(ours.data, ours, content)
        self._wrote(written._replace(data=ours.data, body=body))
        yield from self._after_insert()
        return True

    def _storing(
        self, keys: Iterable[str | None], content: Content, origin: Snapshot | None = None
    ) -> Verb[Snapshot]:
        """Insert a document under the first of the keys that can be had.

        `origin` is the session under its old key, where it moves.
        """
        yield from self._taking_back()
        for key in keys:
            document_id = documents.stored_id(key)
            if key is None or document_id is None:
                continue
            document, written = self._new(key, document_id, content, origin)
            try:
                yield from self._writing(operations.insert(document), written, document)
            except DuplicateKeyError as error:
                if "_id" not in (error.details or {}).get("keyPattern", "_id"):
                    raise  # somebody else's unique index, which no other key would satisfy
                continue
            except (PyMongoError, GeneratorExit):  # no answer came, or nobody waited for it
                self._doubtful = document
                raise
            return written
        raise CreateError("every session key that was tried is taken, or is none of this store's")

    def _new_keys(self) -> Iterable[str]:
        return (self._get_new_session_key() for _ in range(_NEW_KEY_ATTEMPTS))
