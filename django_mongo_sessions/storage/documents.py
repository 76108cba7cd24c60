"""What a stored session is: the names of its fields, its id, its dates, its index.

No other module knows these names.

A document whose `revision` is -1 is a marker and no session: it keeps its id for a minute after the
session has gone. Either the session has moved, and the payload says where to, or it was deleted,
and the payload is empty. No read returns a marker, no save matches one, and no insert can take its
id.

While there is a PREDECESSOR, a marker may have to keep its id for longer: it is a tombstone then.
It stays for as long as the old engine may be asked, so that nothing is adopted under its id.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, NamedTuple

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth import SESSION_KEY as USER_ID_KEY

from django_mongo_sessions.storage import codec


class Sealed(NamedTuple):
    """The fields of a stored session that a load needs."""

    payload: bytes
    created_at: datetime
    seen_at: datetime
    revision: int
    write_id: bytes
    recorded: dict[str, Any]  # of the fields that are named RECORDED
    key_id: str | None  # of the key that encrypts the payload: to be counted, and not trusted
    adopted: datetime | None = None  # when the session was adopted; None if it was born here
    there_until: datetime | None = None  # when it ends in the old engine, if it is still there


class Index(NamedTuple):
    """An index that the collection should have."""

    name: str
    keys: list[tuple[str, int]]
    options: dict[str, Any]


# What RFC 6265 allows in a cookie. Django's own keys have 32 characters, a UUID has 32 or 36.
_KEY = re.compile(r"[!#-+\--:<-\[\]-~]{32,128}")
KEY_FORM = (
    "32 to 128 characters of ASCII, without spaces, quotation marks, commas, semicolons and "
    "backslashes"
)
_KEY_ID = re.compile("[0-9a-f]{8}")
_SCHEME = b"\x01"  # the first byte of an id names how the rest was derived from the key
_FIELDS = {
    "payload": bytes,
    "expires_at": datetime,
    "created_at": datetime,
    "seen_at": datetime,
    "revision": int,
    "write_id": bytes,
}
# What tells a user's sessions apart. Each is missing if it is not known, or not to be stored.
RECORDED = ("auth_hash", "impersonator_id", "user_agent", "address")
_AUTH_HASH_LENGTH = 16  # bytes
_WRITE_ID_LENGTH = 12  # bytes
_MAX_REVISION = 2**62  # a larger one was written by someone with access to the database
_MARKER = -1  # the revision of a marker
MARKER_AGE = 60  # seconds; longer than a request runs that loaded the session before
ADOPTED = ("adopted", "there_until")  # the fields of a session that was adopted
TOMBSTONE_MARGIN = timedelta(days=1)  # by which a tombstone outlives PREDECESSOR_UNTIL
_RESERVED = {"_id", "user_id", "key_id", *_FIELDS, *RECORDED, *ADOPTED}
_OVERTAKEN = "mongo_sessions: another write was faster than "
_CONVERSION_FAILURE = 241
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)

# The engine's fields that a load reads, and none of the project's own.
PROJECTION = dict.fromkeys((*_FIELDS, "key_id", *ADOPTED), True)
# What a list of sessions shows: everything but the payload.
LISTED = dict.fromkeys(("user_id", "created_at", "seen_at", "expires_at", *RECORDED), True)
# The same without what may be of any kind if someone else has written it.
DATED = dict.fromkeys(("user_id", "created_at", "seen_at", "expires_at"), True)
EXISTENCE = {"expires_at": True, "revision": True}
MARKER = {"payload": True, "created_at": True, "revision": True}
TTL_INDEX = Index("mongo_sessions_expires_at", [("expires_at", 1)], {"expireAfterSeconds": 0})
# Without the dates, which each save would change in the index too. A user has few sessions.
USER_INDEX = Index(
    "mongo_sessions_user_id",
    [("user_id", 1)],
    {"partialFilterExpression": {"user_id": {"$exists": True}}},
)


# Ids


def document_id(session_key: object) -> bytes | None:
    """Return the `_id` of a session key; None if it cannot be a key of this engine.

    A key has 165 random bits, and at least 122 if a site makes UUIDs. So a plain SHA-256 leaves no
    way back from document to cookie.
    """
    if isinstance(session_key, str) and _KEY.fullmatch(session_key):
        return _SCHEME + sha256(session_key.encode()).digest()
    return None


def binding(document_id: bytes, created_at: datetime) -> bytes:
    """Return what a payload is sealed to: its document's id and moment of creation."""
    milliseconds = (created_at - _EPOCH) // _MILLISECOND
    return document_id + milliseconds.to_bytes(8, "big", signed=True)


# Filters


def at_write(document_id: bytes, write_id: bytes) -> dict[str, Any]:
    """Match a session, or a marker, that was last written by that write."""
    return {"_id": document_id, "write_id": write_id}


def not_marker(document_id: bytes) -> dict[str, Any]:
    """Match whatever has this id, except for a marker."""
    return {"_id": document_id, "revision": {"$ne": _MARKER}}


def expired(now: datetime, after: bytes | None, up_to: bytes | None = None) -> dict[str, Any]:
    """Match expired sessions in a range of ids; None leaves that end of the range open.

    A comparison with bytes matches only bytes, so foreign documents stay.
    """
    ids = {"$gt": after or b""} if up_to is None else {"$gt": after or b"", "$lte": up_to}
    return {"expires_at": {"$lte": now}, "_id": ids}


def of_user(user_id: str) -> dict[str, Any]:
    """Match the sessions of a user who is signed in. No marker has the field."""
    return {"user_id": user_id}


def some_of_user(user_id: str, ids: Sequence[bytes]) -> dict[str, Any]:
    """Match those sessions with these ids that are a user's."""
    return {**with_ids(ids), "user_id": user_id}


def with_ids(ids: Sequence[bytes]) -> dict[str, Any]:
    """Match what is stored under these ids."""
    return {"_id": {"$in": list(ids)}}


def last_seen(seen: Mapping[bytes, datetime]) -> dict[str, Any]:
    """Match those sessions with these ids that were not seen since."""
    return {"$or": [{"_id": each, "seen_at": seen_at} for each, seen_at in seen.items()]}


def unused_copies(before: datetime) -> dict[str, Any]:
    """Match copies of sessions in the old engine that were made before a date, and not used here.

    Using one stores its data anew, or moves its end. A session that has ended there by itself is
    not matched.
    """
    return {
        "adopted": {"$lt": before},
        "there_until": {"$gt": before},
        "revision": 0,
        "$expr": {"$lte": ["$expires_at", "$there_until"]},
    }


def adopted_after(document_id: bytes) -> dict[str, Any]:
    """Match the sessions with greater ids that were adopted. Markers do not match."""
    return {"_id": {"$gt": document_id}, "adopted": {"$exists": True}}


# Matches every session of somebody who is signed in. With $exists, the index would not be enough.
SIGNED_IN: dict[str, Any] = {"user_id": {"$gt": ""}}
# Those that expire last come first, which are mostly those that were seen last.
LAST_TO_EXPIRE = [("expires_at", -1)]
# Many sessions may expire at one moment, such as at midnight. Even then, this order is the same for
# every page.
LAST_TO_EXPIRE_BY_ID = [*LAST_TO_EXPIRE, ("_id", 1)]


def signed_in(user_ids: Collection[str] | None, now: datetime | None = None) -> dict[str, Any]:
    """Match the sessions of these users; None matches those of everybody who is signed in.

    With a moment, those that have expired by then do not match.
    """
    wanted = SIGNED_IN if user_ids is None else {"user_id": {"$in": sorted(user_ids)}}
    return wanted if now is None else {**wanted, "expires_at": {"$gt": now}}


# Counts the sessions of each user, the most first.
COUNTS: list[dict[str, Any]] = [
    {"$match": SIGNED_IN},
    {"$group": {"_id": "$user_id", "count": {"$sum": 1}}},
    {"$sort": {"count": -1, "_id": 1}},
]


def any_up_to(document_id: bytes | None) -> dict[str, Any]:
    """Match the sessions with ids up to this one, or all for None. Markers do not match."""
    ids = {"$gt": b""} if document_id is None else {"$gt": b"", "$lte": document_id}
    return {"_id": ids, "revision": {"$ne": _MARKER}}


def not_encrypted_with(key_id: str, after: bytes | None) -> dict[str, Any]:
    """Match the sessions with greater ids that this key does not encrypt. Markers do not match."""
    return {
        "_id": {"$gt": after or b""},
        "revision": {"$ne": _MARKER},
        "key_id": {"$ne": key_id},
    }


def counts_by_key(now: datetime, sample: int | None) -> list[dict[str, Any]]:
    """Return the pipeline that counts live sessions by key, in a sample or in all of them."""
    live = {"$match": {"expires_at": {"$gt": now}, "revision": {"$ne": _MARKER}}}
    group = {"$group": {"_id": "$key_id", "count": {"$sum": 1}}}
    return [*([] if sample is None else [{"$sample": {"size": sample}}]), live, group]


def counted_by_key(groups: Iterable[Mapping[str, Any]]) -> dict[str | None, int]:
    """Return what `counts_by_key` has counted: None for no key, "?" for what is no key's id."""
    counts: dict[str | None, int] = {}
    for group in groups:
        name = group["_id"]
        if name is not None and not (isinstance(name, str) and _KEY_ID.fullmatch(name)):
            name = "?"
        counts[name] = counts.get(name, 0) + group["count"]
    return counts


def summary(now: datetime) -> dict[str, Any]:
    """Return the `$group` stage that summarizes sessions into counts, dates and sizes."""
    live = {"$and": [{"$gt": ["$expires_at", now]}, {"$ne": ["$revision", _MARKER]}]}
    signed_in = {"$and": [live, {"$gt": ["$user_id", None]}]}
    # A marker lasts a minute.
    lasts = {"$gt": ["$expires_at", now + timedelta(seconds=MARKER_AGE)]}
    tombstone = {"$and": [lasts, {"$eq": ["$revision", _MARKER]}]}
    adopted = {"$and": [live, {"$gt": ["$adopted", None]}]}
    lately = {"$and": [live, {"$gt": ["$adopted", now - timedelta(days=1)]}]}
    return {
        "_id": None,
        "count": {"$sum": 1},
        "live": {"$sum": {"$cond": [live, 1, 0]}},
        "expired": {"$sum": {"$cond": [{"$or": [live, tombstone]}, 0, 1]}},
        "adopted": {"$sum": {"$cond": [adopted, 1, 0]}},
        "adopted_lately": {"$sum": {"$cond": [lately, 1, 0]}},
        "tombstones": {"$sum": {"$cond": [tombstone, 1, 0]}},
        "signed_in": {"$sum": {"$cond": [signed_in, 1, 0]}},
        "oldest": {"$min": "$created_at"},
        "newest": {"$max": "$created_at"},
        "average_bytes": {"$avg": {"$bsonSize": "$$ROOT"}},
        "largest_bytes": {"$max": {"$bsonSize": "$$ROOT"}},
    }


# Documents


def new_write_id() -> bytes:
    """Return the identity of a new write, which no other write has."""
    return os.urandom(_WRITE_ID_LENGTH)


def read(document: Mapping[str, Any]) -> Sealed:
    """Return the fields that a load needs.

    Raises ValueError, with the name of the field, if one is missing, has the wrong type or a value
    that the engine does not write.
    """
    for name, kind in _FIELDS.items():
        value = document.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"field {name!r} is {type(value).__name__}, not {kind.__name__}")
    if not 0 <= document["revision"] <= _MAX_REVISION:
        raise ValueError("field 'revision' is out of range")
    if len(document["write_id"]) != _WRITE_ID_LENGTH:
        raise ValueError(f"field 'write_id' does not have {_WRITE_ID_LENGTH} bytes")
    return Sealed(
        document["payload"],
        _utc(document["created_at"]),
        _utc(document["seen_at"]),
        document["revision"],
        document["write_id"],
        recorded(document),
        key_id if isinstance(key_id := document.get("key_id"), str) else None,
        *(_date(document.get(name)) for name in ADOPTED),
    )


def recorded(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the RECORDED fields that a document has."""
    return {name: document[name] for name in RECORDED if name in document}


def _date(value: object) -> datetime | None:
    return _utc(value) if isinstance(value, datetime) else None


def _utc(date: datetime) -> datetime:
    """Return a date as read, with Python's own UTC. With PyMongo's, a comparison takes longer."""
    return date.replace(tzinfo=timezone.utc)


def live(document: Mapping[str, Any] | None, now: datetime) -> Mapping[str, Any] | None:
    """Return the document of a live session; None if it has expired, or is a marker.

    A document without a date is returned, and `read` rejects it: if it were reported as missing,
    the cookie would be deleted.
    """
    if document is None or is_marker(document):
        return None
    expires_at = document.get("expires_at")
    has_ended = isinstance(expires_at, datetime) and _utc(expires_at) <= now
    return None if has_ended else document


def is_marker(document: Mapping[str, Any]) -> bool:
    """Return whether a document is a marker, and so not a session."""
    return bool(document.get("revision") == _MARKER)


def has_outlived_its_minute(created_at: datetime, now: datetime) -> bool:
    """Return whether a marker should have been removed by now."""
    return _utc(created_at) + timedelta(seconds=MARKER_AGE) <= now


def writes_since(document: Mapping[str, Any], revision: int) -> float:
    """Return how many payloads were stored since a revision, or infinity if that is unknown.

    If the session has moved, it is unknown. If it was deleted, no write that may have been applied
    before matters any more, so it is as if there were none.
    """
    newer = document.get("revision")
    if is_marker(document):
        return math.inf if document.get("payload") else 0
    return newer - revision if isinstance(newer, int) else math.inf


def new(
    document_id: bytes,
    write_id: bytes,
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
        "write_id": write_id,
        **{name: value for name, value in fields.items() if value is not None},
    }


def marker(
    document_id: bytes,
    write_id: bytes,
    now: datetime,
    payload: bytes = b"",
    until: datetime | None = None,
) -> dict[str, Any]:
    """Return the document that keeps an id for a minute. An empty payload marks a deletion.

    With `until`, from which the old engine is not asked any more, it is a tombstone.
    """
    expires_at = now + timedelta(seconds=MARKER_AGE)
    return {
        "_id": document_id,
        "payload": payload,
        "expires_at": expires_at if until is None else max(expires_at, until + TOMBSTONE_MARGIN),
        "created_at": now,
        "revision": _MARKER,
        "write_id": write_id,
    }


def payload_update(
    write_id: bytes,
    revision: int,
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
        "$set": {
            "payload": payload,
            "expires_at": expires_at,
            "seen_at": now,
            "revision": revision,
            "write_id": write_id,
        }
    }
    if created_at is not None:
        update["$set"]["created_at"] = created_at
    return _with_fields(update, fields)


def encryption_update(payload: bytes, key_id: str) -> dict[str, Any]:
    """Return the update that encrypts what is stored, and changes nothing else."""
    return {"$set": {"payload": payload, "key_id": key_id}}


def expiry_update(now: datetime, expires_at: datetime, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the update that moves the expiry and leaves the payload alone.

    `fields` with the value None are unset.
    """
    return _with_fields({"$set": {"expires_at": expires_at, "seen_at": now}}, fields)


def _with_fields(update: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in fields.items():
        if value is None:
            update.setdefault("$unset", {})[name] = True
        else:
            update["$set"][name] = value
    return update


def update_or_fail(write_id: bytes, update: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an update as a pipeline, which fails if that write was not the last one.

    `was_overtaken` recognizes this error.
    """
    changed = {"$mergeObjects": ["$$ROOT", {"$literal": update["$set"]}]}
    # This text is not a number, so its conversion fails. It is not a constant either: a server
    # might evaluate one even if it is not needed. If a server returned null for it, the update
    # would fail too, since null is no document.
    failure = {"$toInt": {"$concat": [_OVERTAKEN, {"$type": "$_id"}]}}
    is_last = {"$eq": ["$write_id", write_id]}
    pipeline: list[dict[str, Any]] = [{"$replaceWith": {"$cond": [is_last, changed, failure]}}]
    if removed := update.get("$unset"):
        pipeline.append({"$unset": list(removed)})
    return pipeline


def was_overtaken(error: Mapping[str, Any]) -> bool:
    """Return whether an `update_or_fail` has failed because of another write."""
    return error.get("code") == _CONVERSION_FAILURE and _OVERTAKEN in error.get("errmsg", "")


def derived(data: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that follow from a session's data: the user's id, and the project's own.

    Raises ValueError for an extra field whose name is reserved, or cannot name a field.
    """
    return {"user_id": user_id(data), **checked(extra, "to_document")}


def checked(extra: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Return the fields that a method of the project's has returned. Raises as derived() does."""
    for name in extra:
        if name in _RESERVED:
            raise ValueError(f"{source}() returned {name!r}, a field of the engine's own")
        if not name or name.startswith("$") or "." in name or "\0" in name:
            raise ValueError(f"{source}() returned {name!r}, which cannot name a field")
    return extra


def describe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored session to be shown: the id as text, the payload in parts, then the rest.

    The engine's own fields come before the project's.
    """
    payload = document.get("payload")
    shown: dict[str, Any] = {"_id": bytes(document["_id"]).hex(), "payload": payload}
    if isinstance(payload, bytes):
        shown["payload"] = codec.describe(payload)
    for name in ("write_id", "auth_hash"):
        if isinstance(document.get(name), bytes):
            shown[name] = document[name].hex()
    own = ("revision", "created_at", "seen_at", "expires_at", "user_id", *RECORDED, "key_id")
    shown.update({name: document[name] for name in own if name in document and name not in shown})
    return {**shown, **{name: value for name, value in document.items() if name not in shown}}


def user_id(data: Mapping[str, Any]) -> str | None:
    """Return the id of the user who is signed in with these data; None if no user is."""
    given = data.get(USER_ID_KEY)
    return None if given is None else str(given)


def auth_hash(data: Mapping[str, Any]) -> bytes | None:
    """Return the hash that shows whether the password is still the one of the sign-in, or None."""
    given = data.get(HASH_SESSION_KEY)
    return hash_of(given) if isinstance(given, str) else None


def hash_of(session_auth_hash: str) -> bytes:
    """Return what is stored of a user's `get_session_auth_hash()`."""
    return sha256(session_auth_hash.encode()).digest()[:_AUTH_HASH_LENGTH]
