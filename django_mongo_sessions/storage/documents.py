"""What a stored session is: the names of its fields, its id, its dates, its index.

No other module knows these names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, NamedTuple

from django.contrib.auth import SESSION_KEY as USER_ID_KEY

from django_mongo_sessions.storage import codec


class Sealed(NamedTuple):
    """The fields of a stored session that a load needs."""

    payload: bytes
    created_at: datetime
    seen_at: datetime
    revision: int


class Index(NamedTuple):
    """An index that the collection should have."""

    name: str
    keys: list[tuple[str, int]]
    options: dict[str, Any]


_KEY = re.compile(r"[a-z0-9]{32}")
_SCHEME = b"\x01"  # the first byte of an id names how the rest was derived from the key
_FIELDS = {
    "payload": bytes,
    "expires_at": datetime,
    "created_at": datetime,
    "seen_at": datetime,
    "revision": int,
}
_RESERVED = {"_id", "user_id", *_FIELDS}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# The engine's fields that a load reads, and none of the project's own.
PROJECTION = dict.fromkeys(_FIELDS, True)
EXPIRY = {"expires_at": True}
TTL_INDEX = Index("mongo_sessions_expires_at", [("expires_at", 1)], {"expireAfterSeconds": 0})


# Ids


def document_id(session_key: object) -> bytes | None:
    """Return the `_id` of a session key; None if it cannot be a key of this engine.

    The key has 165 random bits, so a plain SHA-256 leaves no way back from document to cookie.
    """
    if isinstance(session_key, str) and _KEY.fullmatch(session_key):
        return _SCHEME + sha256(session_key.encode()).digest()
    return None


def binding(document_id: bytes, created_at: datetime) -> bytes:
    """Return what a payload is sealed to: its document's id and moment of creation."""
    return document_id + ((created_at - _EPOCH) // timedelta(milliseconds=1)).to_bytes(
        8, "big", signed=True
    )


# Filters


def as_written(document_id: bytes, revision: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Match a session as one write of these fields has left it."""
    told = {name: fields[name] for name in ("payload", "seen_at") if name in fields}
    return {"_id": document_id, "revision": revision, **told}


def at_revision(document_id: bytes, revision: int | None) -> dict[str, Any]:
    """Match a session that was not written since that revision; None matches any revision."""
    return {"_id": document_id} | ({} if revision is None else {"revision": revision})


def expired(now: datetime, after: bytes | None, up_to: bytes | None = None) -> dict[str, Any]:
    """Match expired sessions in a range of ids; None leaves that end of the range open.

    A comparison with bytes matches bytes alone, so foreign documents stay.
    """
    ids = {"$gt": after or b""} if up_to is None else {"$gt": after or b"", "$lte": up_to}
    return {"expires_at": {"$lte": now}, "_id": ids}


def summary(now: datetime) -> dict[str, Any]:
    """Return the `$group` stage that summarizes sessions into counts, dates and sizes."""
    live = {"$gt": ["$expires_at", now]}
    signed_in = {"$and": [live, {"$gt": ["$user_id", None]}]}
    return {
        "_id": None,
        "count": {"$sum": 1},
        "live": {"$sum": {"$cond": [live, 1, 0]}},
        "expired": {"$sum": {"$cond": [live, 0, 1]}},
        "signed_in": {"$sum": {"$cond": [signed_in, 1, 0]}},
        "oldest": {"$min": "$created_at"},
        "newest": {"$max": "$created_at"},
        "average_bytes": {"$avg": {"$bsonSize": "$$ROOT"}},
        "largest_bytes": {"$max": {"$bsonSize": "$$ROOT"}},
    }


# Documents


def read(document: Mapping[str, Any]) -> Sealed:
    """Return the fields that a load needs.

    Raises ValueError, with the name of the field, if one is missing or has the wrong type.
    """
    for name, kind in _FIELDS.items():
        value = document.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"field {name!r} is {type(value).__name__}, not {kind.__name__}")
    return Sealed(**{name: document[name] for name in Sealed._fields})


def unless_expired(document: Mapping[str, Any] | None, now: datetime) -> Mapping[str, Any] | None:
    """Return the document, or None if its session has expired.

    A document without a date is returned, and `read` rejects it: if it were reported as missing,
    the cookie would be deleted.
    """
    expires_at = document and document.get("expires_at")
    return None if isinstance(expires_at, datetime) and expires_at <= now else document


def new(
    document_id: bytes,
    payload: bytes,
    created_at: datetime,
    now: datetime,
    expires_at: datetime,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the document of a new session; `fields` come from `derived`."""
    return {
        "_id": document_id,
        "payload": payload,
        "expires_at": expires_at,
        "created_at": created_at,
        "seen_at": now,
        "revision": 0,
        **{name: value for name, value in fields.items() if value is not None},
    }


def payload_update(
    payload: bytes,
    now: datetime,
    expires_at: datetime,
    fields: Mapping[str, Any],
    created_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the update that stores a new payload; `fields` with the value None are unset.

    Pass `created_at` if the payload is sealed to another moment of creation than before.
    """
    update: dict[str, Any] = {
        "$set": {"payload": payload, "expires_at": expires_at, "seen_at": now},
        "$inc": {"revision": 1},
    }
    if created_at is not None:
        update["$set"]["created_at"] = created_at
    for name, value in fields.items():
        if value is None:
            update.setdefault("$unset", {})[name] = True
        else:
            update["$set"][name] = value
    return update


def expiry_update(now: datetime, expires_at: datetime) -> dict[str, Any]:
    """Return the update that moves the expiry and leaves the payload alone."""
    return {"$set": {"expires_at": expires_at, "seen_at": now}}


def derived(data: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that follow from a session's data: the user's id, and the project's own.

    Raises ValueError for an extra field whose name is reserved, or cannot name a field.
    """
    for name in extra:
        if name in _RESERVED:
            raise ValueError(f"to_document() returned {name!r}, a field of the engine's own")
        if not name or name.startswith("$") or "." in name or "\0" in name:
            raise ValueError(f"to_document() returned {name!r}, which cannot name a field")
    return {"user_id": user_id(data), **extra}


def describe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored session to be shown: the id as text, the payload in parts, then the rest.

    The engine's own fields come before the project's.
    """
    payload = document.get("payload")
    shown: dict[str, Any] = {"_id": bytes(document["_id"]).hex(), "payload": payload}
    if isinstance(payload, bytes):
        shown["payload"] = codec.describe(payload)
    own = ("revision", "created_at", "seen_at", "expires_at", "user_id")
    shown.update({name: document[name] for name in own if name in document})
    return {**shown, **{name: value for name, value in document.items() if name not in shown}}


def user_id(data: Mapping[str, Any]) -> str | None:
    """Return the id of the user that is signed in with these data; None if nobody is."""
    given = data.get(USER_ID_KEY)
    return None if given is None else str(given)
