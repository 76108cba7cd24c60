"""The steps that verbs share: to read, to insert, to delete. No I/O happens here.

None of them touches `self._session`, which hides I/O: they ask `yield from self._data()`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bson.errors import InvalidBSON
from django.contrib.sessions.backends.base import CreateError
from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions import dates, documents, operations
from django_mongo_sessions.drivers import Operation, Verb
from django_mongo_sessions.refusals import was_cut_off
from django_mongo_sessions.snapshots import Attempt, Content, Snapshot
from django_mongo_sessions.state import SessionState

logger = logging.getLogger("django_mongo_sessions")

_NEW_KEY_ATTEMPTS = 8


class SessionSteps(SessionState):
    """The steps. `SessionStore` adds what follows an insert."""

    _after_insert: Callable[[], Verb[None]]
    _doubtful: Mapping[str, Any] | None = None  # a document that may have been inserted

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

    def _taking_back(self) -> Verb[None]:
        """Delete what an insert without an answer may have stored: it is about to be done anew."""
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is not None:
            try:
                yield operations.take_back(doubtful)
            except PyMongoError:
                self._doubtful = doubtful
                raise

    def _updating(
        self, stored: Snapshot, update: Mapping[str, Any], written: Snapshot
    ) -> Verb[bool]:
        """Change a document, and answer whether nobody else had since it was read."""
        write = operations.update(stored.document_id, stored.revision, update)
        return (yield from self._writing(write, written, update["$set"]))

    @staticmethod
    def _writing(
        write: Operation[bool], written: Snapshot, fields: Mapping[str, Any]
    ) -> Verb[bool]:
        """Do a write. If the connection breaks before its answer, find out whether it was done, and
        do it again if it was not: the answer is that of one write.
        """
        try:
            return bool((yield write))
        except PyMongoError as error:
            if not was_cut_off(error):
                raise
        done = yield operations.confirm(written.document_id, written.revision, fields)
        return bool(done or (yield write))

    def _new_keys(self) -> Iterable[str]:
        return (self._get_new_session_key() for _ in range(_NEW_KEY_ATTEMPTS))

    def _deleting(self, session_key: str | None = None, revision: int | None = None) -> Verb[bool]:
        """Delete a session, if asked to only at a revision, and answer whether it was there."""
        key = self.session_key if session_key is None else session_key
        document_id = documents.stored_id(key)
        if document_id is None:
            return False
        if key == self.session_key:
            self._forget_write()  # or the next save would take it to be there still
        write = operations.delete(document_id, revision)
        try:
            there: bool = yield write
        except PyMongoError as error:
            if not was_cut_off(error):
                raise
            # Before the connection broke, or now: if it is not there, we have deleted it.
            there = (yield write) or (yield operations.find_whole(document_id)) is None
        return there
