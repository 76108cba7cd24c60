"""What a document holds, by the book: SECURITY.md and docs/storage.md, and none of the engine."""

from __future__ import annotations

import json
import string
import zlib
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import bson
from bson import DatetimeMS
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidBSON
from django.contrib.sessions.backends.base import SessionBase
from django.utils.crypto import salted_hmac

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_FIRST, _LAST = -62135596800000, 253402300799999  # milliseconds that `datetime` holds
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
    uuid_representation=UuidRepresentation.STANDARD,
)
_KEY = set(string.ascii_lowercase + string.digits)
_DEEPEST = 100  # brackets; how many more can be read is a matter of the stack


class Held(NamedTuple):
    """What a document is worth."""

    is_expired: bool
    revision: Any
    sealed: bytes | None = None  # what one of our keys has sealed
    body: bytes | None = None  # the same, decompressed
    data: dict[str, Any] | None = None  # None: it must be refused
    is_deep: bool = False  # then it may be read and may be refused


def id_of(key: object) -> bytes | None:
    """Return the `_id` of a session key, None for what is none."""
    if not isinstance(key, str) or len(key) != 32 or not set(key) <= _KEY:
        return None
    return b"\x01" + sha256(key.encode()).digest()


def milliseconds(date: datetime) -> int:
    """Return a date as BSON holds it."""
    return (date - EPOCH) // timedelta(milliseconds=1)


def seal(form: bytes, document_id: bytes, created_at: int, body: bytes, key: str) -> bytes:
    """Return a payload that is sealed."""
    signed = form + document_id + created_at.to_bytes(8, "big", signed=True) + body
    mac = salted_hmac("django_mongo_sessions.codec", signed, secret=key, algorithm="sha256")
    return form + mac.digest() + body


# Each check of a step reads the same few documents.
@lru_cache(maxsize=16)
def read(raw: bytes, document_id: bytes, keys: tuple[str, ...], now: datetime) -> Held:
    """Read a document."""
    try:
        document = bson.decode(raw, _OPTIONS)
    except InvalidBSON:  # which says nothing of a date
        return Held(False, None)
    dates = [document.get(name) for name in ("expires_at", "created_at", "seen_at")]
    are_dates = [isinstance(date, DatetimeMS) and _FIRST <= int(date) <= _LAST for date in dates]
    is_expired = are_dates[0] and int(dates[0]) <= milliseconds(now)
    payload, revision = document.get("payload"), document.get("revision")
    is_whole = isinstance(payload, bytes) and isinstance(revision, int)
    if not all(are_dates) or not is_whole or isinstance(revision, bool):
        return Held(is_expired, revision)
    form, body = payload[:1], payload[33:]
    made = (seal(form, document_id, int(dates[1]), body, key) for key in keys)
    if payload not in made:
        return Held(is_expired, revision)
    sealed = body
    if form == b"\x02":
        try:
            body = zlib.decompress(sealed)
        except zlib.error:
            return Held(is_expired, revision, sealed)
    elif form != b"\x01":
        return Held(is_expired, revision, sealed)
    is_deep = body.count(b"[") + body.count(b"{") > _DEEPEST
    return Held(is_expired, revision, sealed, body, _loaded(body), is_deep)


def _loaded(body: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(body.decode("latin-1"))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def is_storable(data: dict[str, Any]) -> bool:
    """Return whether Django and MongoDB take a session's expiry and its user's id."""
    expiry = data.get("_session_expiry")
    try:
        json.dumps(data)
        str(data.get("_auth_user_id")).encode()
        SessionBase().get_expiry_date(modification=EPOCH, expiry=expiry)
        SessionBase().get_expiry_age(modification=EPOCH, expiry=expiry)
    except OverflowError:  # which the engine clamps
        return True
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def is_servable(data: dict[str, Any]) -> bool:
    """Return whether Django's middleware can make a cookie of a session's expiry too."""
    expiry = data.get("_session_expiry")
    is_plain = expiry is None or (isinstance(expiry, int) and abs(expiry) < 10**9)
    return is_plain and is_storable(data)


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two sessions are stored alike, but for the order of their keys."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
