"""A write is done once, also where its answer is lost. No I/O happens here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions import documents, operations
from django_mongo_sessions.drivers import Operation, Verb
from django_mongo_sessions.refusals import was_cut_off
from django_mongo_sessions.snapshots import Snapshot
from django_mongo_sessions.state import SessionState


class SessionWrites(SessionState):
    """How a session's document is changed, deleted and taken back."""

    _doubtful: Mapping[str, Any] | None = None  # a document that may have been inserted

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
        look = operations.confirm(written.document_id, written.revision, fields)
        if (yield look):
            return True
        try:
            return bool((yield write))
        except DuplicateKeyError:  # the first one may have arrived as we looked
            if not (yield look):
                raise
            return True

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
            try:
                # Before the connection broke, or now: if it is not there, we have deleted it. Or
                # somebody has signed out in these very milliseconds, which nobody can tell.
                there = (yield write) or (yield operations.find_whole(document_id)) is None
            except PyMongoError:
                raise error from None  # what is known of it is no more than before
        return there

    def _taking_back(self) -> Verb[None]:
        """Delete what an insert without an answer may have stored: it is about to be done anew."""
        doubtful, self._doubtful = self._doubtful, None
        known = self._current()  # which it is, if it was read meanwhile
        if doubtful is not None and (known is None or known.document_id != doubtful["_id"]):
            try:
                yield operations.take_back(doubtful)
            except PyMongoError:
                self._doubtful = doubtful
                raise
