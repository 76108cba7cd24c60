"""From a session's content to a document, and from a document to a snapshot."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.signing import BadSignature
from pymongo.errors import DocumentTooLarge

from django_mongo_sessions.conf import conf
from django_mongo_sessions.engine import payloads
from django_mongo_sessions.engine.predecessors import OldSession
from django_mongo_sessions.engine.session import (
    WRITE_INTERVAL,
    Content,
    Snapshot,
    TrackedSession,
    began,
    latest_end,
)
from django_mongo_sessions.mongo.runner import Steps
from django_mongo_sessions.storage import codec, dates, documents

logger = logging.getLogger("django_mongo_sessions")

LARGE_BODY = 1_000_000  # bytes above which a warning is logged


def opened(
    session: TrackedSession, key: str, document_id: bytes, document: Mapping[str, Any]
) -> Steps[Snapshot]:
    """Return the snapshot of a document. If it does not open, nothing in it is trusted.

    Raises KeysUnavailable if it is encrypted, and the keys cannot be obtained.
    """
    try:
        stored = documents.read(document)
        binding = documents.binding(document_id, stored.created_at)
        body, is_current = yield from payloads.opened(stored.payload, binding, key)
        data = session._load(body)
    except (BadSignature, ValueError) as error:
        return rejected(session, key, document_id, error)
    return Snapshot(
        key,
        document_id,
        data,
        stored.created_at,
        stored.seen_at,
        body,
        user_id=documents.user_id(data),
        revision=stored.revision,
        write_id=stored.write_id,
        sealed_with_current_key=is_current,
        recorded=stored.recorded,
        key_id=stored.key_id,
        adopted=stored.adopted,
        there_until=stored.there_until,
    )


def found(
    session: TrackedSession, key: str, document_id: bytes, document: Mapping[str, Any] | None
) -> Steps[Snapshot | None]:
    """Return the snapshot of what is stored at an id; None if that is no live session."""
    live = documents.live(document, dates.utc_now())
    return None if live is None else (yield from opened(session, key, document_id, live))


def rejected(session: TrackedSession, key: str, document_id: bytes, error: Exception) -> Snapshot:
    """Return the snapshot of a document that does not open, and log it once per store."""
    session._log_rejection(document_id, error)
    return unreadable(key, document_id)


def unreadable(key: str, document_id: bytes) -> Snapshot:
    """Return the snapshot of a session of which nothing is known but that it exists."""
    now = dates.utc_now()
    return Snapshot(key, document_id, {}, now, now, b"", readable=False)


def pointer(old: Snapshot, new_id: bytes, write_id: bytes) -> dict[str, Any]:
    """Return the marker that takes the place of a session that moves to a new document."""
    now = dates.utc_now()
    binding = documents.binding(old.document_id, now)
    payload = codec.seal_pointer(new_id, binding, conf.SIGNING_KEYS[0])
    until = None if old.adopted is None else _asked_until()
    return documents.marker(old.document_id, write_id, now, payload, until)


def tombstone(document_id: bytes) -> dict[str, Any]:
    """Return the marker of a session that was deleted.

    It stays for as long as the old engine may be asked, or for a minute if there is none.
    """
    write_id = documents.new_write_id()
    return documents.marker(document_id, write_id, dates.utc_now(), until=_asked_until())


def _asked_until() -> datetime | None:
    return None if conf.PREDECESSOR is None else conf.predecessor_until()


def target(document: Mapping[str, Any]) -> bytes | None:
    """Return the id of the document that a session has moved to, if that is what a marker says.

    A marker that the TTL index should have removed says nothing any more.
    """
    try:
        binding = documents.binding(document["_id"], document["created_at"])
        found = codec.unseal_pointer(document["payload"], binding, conf.SIGNING_KEYS)
    except (BadSignature, KeyError, TypeError, ValueError):
        return None
    is_over = documents.has_outlived_its_minute(document["created_at"], dates.utc_now())
    return None if is_over else found


def new(
    session: TrackedSession,
    key: str,
    document_id: bytes,
    content: Content,
    origin: Snapshot | None,
    ends: datetime | None = None,
) -> Steps[tuple[dict[str, Any], Snapshot]]:
    """Return the document to insert, and the snapshot once it is stored.

    `origin` is the session under its old key, if it moves to this one. `ends` is when the session
    ends, if a subclass says so.
    """
    data, body = content
    now = dates.utc_now()
    start = began(origin, data, now)
    expires_at = _expires_at(session, data, now, start, ends)
    recorded = _stored(_recorded(session, data, {} if origin is None else origin.recorded))
    expected = Snapshot(
        key,
        document_id,
        data,
        start,
        now,
        body,
        user_id=documents.user_id(data),
        write_id=documents.new_write_id(),
        expires_at=expires_at,
        recorded=recorded,
    )
    payload, key_id = yield from _closed(session, expected)
    document = documents.new(
        document_id,
        expected.write_id,
        payload,
        start,
        now,
        expires_at,
        {**_fields(session, data), **recorded, "key_id": key_id},
    )
    return document, expected._replace(key_id=key_id)


def adopted(
    session: TrackedSession,
    key: str,
    document_id: bytes,
    content: Content,
    fields: Mapping[str, Any],
    old: OldSession,
) -> Steps[tuple[dict[str, Any], Snapshot]]:
    """Return the document of a session of the old engine, and the snapshot once it is stored.

    It ends when it would have ended there. It began with its last save there, so no session lasts
    longer because it was adopted.
    """
    origin = Snapshot(
        key,
        document_id,
        content.data,
        old.began,
        old.began,
        b"",
        user_id=documents.user_id(content.data),
    )
    document, expected = yield from new(session, key, document_id, content, origin, old.ends)
    expected = expected._replace(seen_at=old.began, adopted=dates.utc_now(), there_until=old.ends)
    given = documents.checked(fields, "from_predecessor")
    extra = {name: value for name, value in given.items() if value is not None}
    known = {name: getattr(expected, name) for name in ("seen_at", *documents.ADOPTED)}
    return {**document, **extra, **known}, expected


def update(
    session: TrackedSession, stored: Snapshot, content: Content, ends: datetime | None = None
) -> Steps[tuple[dict[str, Any], Snapshot]]:
    """Return the update that stores the content, and the snapshot once it is stored.

    If the same content is stored already, the update only moves the expiry. `ends` is when the
    session ends, if a subclass says so. If it now ends earlier than in the old engine,
    `there_until` is None in the snapshot: it must be deleted there before the update is sent.
    """
    now = dates.utc_now()
    start = began(stored, content.data, now)
    expires_at = _expires_at(session, content.data, now, start, ends)
    recorded = _recorded(session, content.data, stored.recorded)
    changed = {
        name: value for name, value in recorded.items() if stored.recorded.get(name) != value
    }
    there_until = stored.there_until
    if there_until is not None and expires_at < there_until:  # it is deleted there first
        there_until = changed["there_until"] = None
    if content.body == stored.body and stored.sealed_with_current_key:
        expected = stored._replace(
            data=content.data,
            cleared=False,
            expires_at=expires_at,
            there_until=there_until,
            recorded=_stored(recorded),
        )
        return documents.expiry_update(now, expires_at, changed), expected
    expected = stored._replace(
        data=content.data,
        cleared=False,
        expires_at=expires_at,
        there_until=there_until,
        created_at=start,
        body=content.body,
        user_id=documents.user_id(content.data),
        revision=stored.revision + 1,
        write_id=documents.new_write_id(),
        sealed_with_current_key=True,
        recorded=_stored(recorded),
    )
    payload, key_id = yield from _closed(session, expected)
    # Also if it is the same as before: `mongosessions encrypt` may have changed it since, which is
    # no write. With another first key, or none, this host would leave that key's id behind.
    if conf.encryption is not None or key_id != stored.key_id:
        changed["key_id"] = key_id
    change = documents.payload_update(
        expected.write_id,
        expected.revision,
        payload,
        now,
        expires_at,
        {**_fields(session, content.data), **changed},
        created_at=None if start == stored.created_at else start,
    )
    return change, expected._replace(key_id=key_id)


def moves_expiry(
    session: TrackedSession, stored: Snapshot, content: Content, ends: datetime | None
) -> bool:
    """Return whether a write of this content would move the expiry that this store has written.

    Less than WRITE_INTERVAL does not count. `ends` is when the session ends, if a subclass says so.
    """
    now = dates.utc_now()
    expires_at = _expires_at(session, content.data, now, began(stored, content.data, now), ends)
    return abs((expires_at - stored.expires_at).total_seconds()) >= WRITE_INTERVAL


def _fields(session: TrackedSession, data: dict[str, Any]) -> dict[str, Any]:
    return documents.derived(data, session.to_document(data))


def _recorded(
    session: TrackedSession, data: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the RECORDED fields to store; None for a field to remove.

    What is not known of the client of this write stays as it was.
    """
    now = {name: before.get(name) for name in documents.RECORDED}
    now["auth_hash"] = documents.auth_hash(data)
    impersonator_id = session.impersonator_id(data)
    now["impersonator_id"] = None if impersonator_id is None else str(impersonator_id)
    if session._client is not None:
        now.update(session._client.describe())
    if not conf.USER_AGENT:
        now["user_agent"] = None
    if conf.ADDRESS is None:
        now["address"] = None
    return {name: value for name, value in now.items() if value is not None or name in before}


def _stored(recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recorded.items() if value is not None}


def _closed(session: TrackedSession, expected: Snapshot) -> Steps[tuple[bytes, str | None]]:
    """Return the payload to store, and the id of the key that encrypts it, if it is encrypted."""
    size = len(expected.body)
    if size > LARGE_BODY:
        sizes = codec.largest_keys(session.serializer, expected.data)
        named = ", ".join(f"{key!r} ({length:,} bytes)" for key, length in sizes.items())
        message = (
            f"A session's payload has {size:,} bytes before compression. Largest keys: {named}."
        )
        if size > codec.MAX_BODY:
            raise DocumentTooLarge(f"{message} At most {codec.MAX_BODY:,} bytes can be stored.")
        logger.warning("%s Every request that uses the session loads all of it.", message)
    binding = documents.binding(expected.document_id, expected.created_at)
    return (yield from payloads.closed(expected.body, binding, expected.key))


def _expires_at(
    session: TrackedSession,
    data: Mapping[str, Any],
    now: datetime,
    start: datetime,
    ends: datetime | None,
) -> datetime:
    if ends is None:
        expiry = data.get("_session_expiry")
        try:
            ends = dates.utc(session.get_expiry_date(modification=now, expiry=expiry))
        except OverflowError:
            is_past = isinstance(expiry, (int, float)) and expiry < 0
            ends = dates.EARLIEST if is_past else dates.LATEST
    return min(ends, latest_end(start))
