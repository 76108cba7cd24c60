"""What a store holds between its verbs: made of what was read, and made into what is written.

No I/O happens here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.contrib.sessions.backends.base import VALID_KEY_CHARS, SessionBase
from django.core.signing import BadSignature
from django.utils.crypto import get_random_string
from pymongo.errors import DocumentTooLarge

from django_mongo_sessions import codec, dates, documents, merging
from django_mongo_sessions.conf import conf
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.snapshots import Content, Snapshot

logger = logging.getLogger("django_mongo_sessions")
security_logger = logging.getLogger("django.security.SuspiciousSession")

LARGE_PAYLOAD = 1_000_000  # bytes that are worth a warning
MAX_PAYLOAD = 15_000_000  # bytes; MongoDB takes documents of 16 MiB, and there are other fields
WRITE_INTERVAL = 1.0  # seconds in which a store that has written does not write the same again


class SessionState(SessionBase):
    """A session in memory, and what the server is known to hold of it."""

    _session_cache: dict[str, Any]
    _snapshot: Snapshot | None = None
    _written_at: float | None = None  # by time.monotonic(): this store's own last write
    _refusal_logged = False
    _modified = False
    _dumped: bytes | None = None  # the body that `modified` was answered by
    _passed_over: bytes | None = None  # the body at `modified = False`

    def to_document(self, data: dict[str, Any]) -> Mapping[str, Any]:
        """Return extra top-level fields to store with the session, for a project's own queries.

        Override it to derive them from `data`, without I/O: it serves both colours, at each
        insert and each save that changes something. A value of None removes the field. Names
        that are ours, begin with `$` or hold a `.` raise ValueError.
        """
        return {}

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
        return self._modified or (conf.TRACK_NESTED and self._is_changed_inside())

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified, self._dumped, self._passed_over = value, None, None
        if not value and conf.TRACK_NESTED and self._is_changed_inside():
            self._passed_over = self._dumped

    def _is_changed_inside(self) -> bool:
        stored = self._current()
        if stored is None or not stored.opened:
            return False
        body = self._dump(self._session_cache)
        if body in (stored.body, self._passed_over):
            return False
        self._dumped = body  # which the save that follows uses
        return True

    def clear(self) -> None:
        """Empty the session. What the server holds of it goes with the next save."""
        stored = self._current()
        super().clear()
        if stored is not None:
            self._snapshot = replace(stored, data=self._session_cache, replaced=True)

    def _current(self) -> Snapshot | None:
        """Return the snapshot if it belongs to the session's key and to its very dict."""
        stored = self._snapshot
        if stored is None or stored.key != self.session_key:
            return None
        return stored if stored.data is getattr(self, "_session_cache", None) else None

    def _wrote(self, written: Snapshot) -> None:
        self._snapshot, self._written_at = written, time.monotonic()
        self._dumped = self._passed_over = None

    def _forget_write(self) -> None:
        self._written_at = None

    def _has_just_written(self) -> bool:
        at = self._written_at
        return at is not None and time.monotonic() - at < WRITE_INTERVAL

    # From a document, and to one

    def _opened(self, key: str, document_id: bytes, document: Mapping[str, Any]) -> Snapshot:
        """Return what a document holds. Nothing of one that does not open is trusted."""
        try:
            stored = documents.read(document)
            binding = documents.binding(document_id, stored.created_at)
            body, fresh = codec.open(stored.payload, binding, conf.SIGNING_KEYS)
            data = codec.load(self.serializer, body)
        except (BadSignature, ValueError) as error:
            if not self._refusal_logged:
                self._refusal_logged = True
                security_logger.warning("Session %s refused: %s", document_id.hex(), error)
            return Snapshot(key, document_id, {}, dates.utc_now(), b"", opened=False)
        return Snapshot(key, document_id, data, stored.created_at, body, stored.revision, fresh)

    def _new(
        self, key: str, document_id: bytes, data: dict[str, Any]
    ) -> tuple[dict[str, Any], Snapshot]:
        """Return the document to insert, and what will be known once it is."""
        written = Snapshot(
            key, document_id, data, dates.utc_now(), codec.dump(self.serializer, data)
        )
        now = written.created_at
        document = documents.new(
            document_id, self._sealed(written), now, self._expires_at(data, now), self._fields(data)
        )
        return document, written

    def _update(self, stored: Snapshot, content: Content) -> tuple[dict[str, Any], Snapshot]:
        """Return the update that stores a content, and what will be known once it has.

        Where the very same is stored, only the expiry moves.
        """
        now = dates.utc_now()
        expires_at = self._expires_at(content.data, now)
        written = replace(stored, data=content.data, replaced=False)
        if content.body == stored.body and stored.fresh:
            return documents.touching(now, expires_at), written
        written = replace(written, body=content.body, revision=stored.revision + 1, fresh=True)
        fields = self._fields(content.data)
        return documents.replacing(self._sealed(written), now, expires_at, fields), written

    # What two requests have made of one session

    def _dump(self, data: Mapping[str, Any]) -> bytes:
        return codec.dump(self.serializer, data)

    def _load(self, body: bytes) -> dict[str, Any]:
        return codec.load(self.serializer, body)

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

    def _bring_up_to_date(self, live: dict[str, Any], ours: Content, content: Content) -> None:
        """Let the session show what was stored; what it was changed to meanwhile stays."""
        if content.body != ours.body:
            now = self._load(self._dump(live))
            merged = merging.merge(self._dump, self._load(ours.body), content.data, now)
            merging.bring_up_to_date(self._dump, self._load, live, merged.data)

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

    def _expires_at(self, data: Mapping[str, Any], now: datetime) -> datetime:
        expiry = data.get("_session_expiry")
        try:
            return dates.utc(self.get_expiry_date(modification=now, expiry=expiry))
        except OverflowError:
            return dates.furthest(past=isinstance(expiry, (int, float)) and expiry < 0)
