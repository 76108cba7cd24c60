"""A session's dict, and the document that MongoDB holds of it. No I/O happens here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.core.signing import BadSignature
from pymongo.errors import DocumentTooLarge

from django_mongo_sessions import codec, dates, documents
from django_mongo_sessions.conf import conf
from django_mongo_sessions.snapshots import Content, Snapshot

logger = logging.getLogger("django_mongo_sessions")
security_logger = logging.getLogger("django.security.SuspiciousSession")

LARGE_PAYLOAD = 1_000_000  # bytes that are worth a warning
MAX_PAYLOAD = 15_000_000  # bytes; MongoDB takes documents of 16 MiB, and there are other fields


class SessionMapper(SessionBase):
    """What a session is as a document. `SessionState` adds what is known between two verbs."""

    _refusal_logged = False

    def to_document(self, data: dict[str, Any]) -> Mapping[str, Any]:
        """Return extra top-level fields to store with the session, for a project's own queries.

        Override it to derive them from `data`, without I/O: it serves both colours, at each
        insert and each save that changes something. A value of None removes the field. Names
        that are ours, begin with `$` or hold a `.` raise ValueError.
        """
        return {}

    def _opened(self, key: str, document_id: bytes, document: Mapping[str, Any]) -> Snapshot:
        """Return what a document holds. Nothing of one that does not open is trusted."""
        try:
            stored = documents.read(document)
            binding = documents.binding(document_id, stored.created_at)
            body, fresh = codec.open(stored.payload, binding, conf.SIGNING_KEYS)
            data = codec.load(self.serializer, body)
        except (BadSignature, ValueError) as error:
            return self._refused(key, document_id, error)
        return Snapshot(
            *(key, document_id, data, stored.created_at, stored.seen_at, body),
            user_id=documents.user_id(data),
            revision=stored.revision,
            fresh=fresh,
        )

    def _refused(self, key: str, document_id: bytes, error: Exception) -> Snapshot:
        """Return what is known where a document does not open, and log that once."""
        if not self._refusal_logged:
            self._refusal_logged = True
            security_logger.warning("Session %s refused: %s", document_id.hex(), error)
        now = dates.utc_now()
        return Snapshot(key, document_id, {}, now, now, b"", opened=False)

    def _new(
        self, key: str, document_id: bytes, content: Content, origin: Snapshot | None
    ) -> tuple[dict[str, Any], Snapshot]:
        """Return the document to insert, and what will be known once it is.

        `origin` is the session under its old key, where it moves to this one.
        """
        data, body = content
        now = dates.utc_now()
        began = self._began(origin, data, now)
        user_id = documents.user_id(data)
        written = Snapshot(key, document_id, data, began, now, body, user_id)
        document = documents.new(
            *(document_id, self._sealed(written), began, now),
            self._expires_at(data, now, began),
            self._fields(data),
        )
        return document, written

    def _began(self, stored: Snapshot | None, data: Mapping[str, Any], now: datetime) -> datetime:
        """Return when the session with these data began: anew where they sign in a user."""
        if stored is None or (stored.user_id is None and documents.user_id(data) is not None):
            return now
        return stored.created_at

    def _update(self, stored: Snapshot, content: Content) -> tuple[dict[str, Any], Snapshot]:
        """Return the update that stores a content, and what will be known once it has.

        Where the very same is stored, only the expiry moves.
        """
        now = dates.utc_now()
        began = self._began(stored, content.data, now)
        expires_at = self._expires_at(content.data, now, began)
        written = stored._replace(data=content.data, replaced=False)
        if content.body == stored.body and stored.fresh:
            return documents.touching(now, expires_at), written
        written = written._replace(
            created_at=began,
            body=content.body,
            user_id=documents.user_id(content.data),
            revision=stored.revision + 1,
            fresh=True,
        )
        update = documents.replacing(
            *(self._sealed(written), now, expires_at, self._fields(content.data)),
            created_at=None if began == stored.created_at else began,
        )
        return update, written

    def _dump(self, data: Mapping[str, Any]) -> bytes:
        return codec.dump(self.serializer, data)

    def _load(self, body: bytes) -> dict[str, Any]:
        return codec.load(self.serializer, body)

    def _fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return documents.derived(data, self.to_document(data))

    def _sealed(self, written: Snapshot) -> bytes:
        binding = documents.binding(written.document_id, written.created_at)
        payload = codec.close(written.body, binding, conf.SIGNING_KEYS[0])
        if len(payload) > LARGE_PAYLOAD:
            sizes = codec.largest_keys(self.serializer, written.data)
            named = ", ".join(f"{key!r} ({size:,} bytes)" for key, size in sizes.items())
            message = f"A session's payload is {len(payload):,} bytes. Its largest keys: {named}."
            if len(payload) > MAX_PAYLOAD:
                raise DocumentTooLarge(f"{message} At most {MAX_PAYLOAD:,} bytes can be stored.")
            logger.warning("%s Every request that reads the session reads them all.", message)
        return payload

    def _expires_at(self, data: Mapping[str, Any], now: datetime, began: datetime) -> datetime:
        expiry = data.get("_session_expiry")
        try:
            date = dates.utc(self.get_expiry_date(modification=now, expiry=expiry))
        except OverflowError:
            date = dates.furthest(past=isinstance(expiry, (int, float)) and expiry < 0)
        return min(date, self._ends_at_the_latest(began))

    def _ends_at_the_latest(self, began: datetime) -> datetime:
        """Return when a session ends that began then, however busy it is."""
        age = conf.ABSOLUTE_AGE
        return dates.furthest(past=False) if age is None else dates.later(began, age)
