"""What a stored session is: the names of its fields, its id, its dates, its index.

No I/O happens here, and no other module knows these names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, NamedTuple

from django.contrib.auth import SESSION_KEY as USER_ID_KEY


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
_SCHEME = b"\x01"  # the first byte of an id says how the rest was made of the key
_FIELDS = {
    "payload": bytes,
    "expires_at": datetime,
    "created_at": datetime,
    "seen_at": datetime,
    "revision": int,
}
_RESERVED = {"_id", "user_id", *_FIELDS}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# What a load asks for: the fields of ours that it reads, and none of a project's own.
PROJECTION = dict.fromkeys(_FIELDS, True)
EXPIRY = {"expires_at": True}
TTL_INDEX = Index("mongo_sessions_expires_at", [("expires_at", 1)], {"expireAfterSeconds": 0})


# Ids


def stored_id(session_key: object) -> bytes | None:
    """Return the `_id` of a session key; None for what cannot be a key of ours.

    The key has 165 random bits: a plain SHA-256 leaves no way back from document to cookie.
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


def evidence(document_id: bytes, revision: int, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Match a session as a write of ours has left it, which has set what is `stored`."""
    told = {name: stored[name] for name in ("payload", "seen_at") if name in stored}
    return {"_id": document_id, "revision": revision, **told}


def revised(document_id: bytes, revision: int | None) -> dict[str, Any]:
    """Match a session that nobody has written to since that revision; None matches any."""
    return {"_id": document_id} | ({} if revision is None else {"revision": revision})


def expired(now: datetime, after: bytes | None, up_to: bytes | None = None) -> dict[str, Any]:
    """Match expired sessions, in a range of ids that is open where None.

    Comparing with bytes matches bytes alone: documents that are none of ours stay.
    """
    ids = {"$gt": after or b""} if up_to is None else {"$gt": after or b"", "$lte": up_to}
    return {"expires_at": {"$lte": now}, "_id": ids}


def summary(now: datetime) -> dict[str, Any]:
    """Group sessions into counts, dates and sizes."""
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
    """Return what a load needs; raise ValueError, naming a field that is missing or wrong."""
    for name, kind in _FIELDS.items():
        value = document.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"field {name!r} is {type(value).__name__}, not {kind.__name__}")
    return Sealed(**{name: document[name] for name in Sealed._fields})


def live(document: Mapping[str, Any] | None, now: datetime) -> Mapping[str, Any] | None:
    """Return the document unless its session has expired; the TTL monitor is not relied on.

    One without a date has not, and `read` refuses it: what is not found loses its cookie.
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
    """Return the document of a new session; `fields` are `derived` ones."""
    return {
        "_id": document_id,
        "payload": payload,
        "expires_at": expires_at,
        "created_at": created_at,
        "seen_at": now,
        "revision": 0,
        **{name: value for name, value in fields.items() if value is not None},
    }


def replacing(
    payload: bytes,
    now: datetime,
    expires_at: datetime,
    fields: Mapping[str, Any],
    created_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the update that stores a new payload; `fields` that are None are unset.

    `created_at` is given where the payload is sealed to another moment of creation than before.
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


def touching(now: datetime, expires_at: datetime) -> dict[str, Any]:
    """Return the update that moves the expiry and leaves the payload."""
    return {"$set": {"expires_at": expires_at, "seen_at": now}}


def derived(data: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that follow from a session's data: the user's id, and a project's own.

    Raises ValueError for an extra field whose name is ours or no name for a field.
    """
    for name in extra:
        if name in _RESERVED:
            raise ValueError(f"to_document() returned {name!r}, a field of the engine's own")
        if not name or name.startswith("$") or "." in name or "\0" in name:
            raise ValueError(f"to_document() returned {name!r}, which cannot name a field")
    return {"user_id": user_id(data), **extra}


def user_id(data: Mapping[str, Any]) -> str | None:
    """Return the id of the user that a session's data sign in; None for an anonymous one."""
    given = data.get(USER_ID_KEY)
    return None if given is None else str(given)
