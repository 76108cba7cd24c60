"""What a document means according to SECURITY.md and docs/storage.md, without the engine's code."""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import bson
from bson import DatetimeMS
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from cryptography.exceptions import InvalidTag
from django.contrib.sessions.backends.base import SessionBase
from django.utils.crypto import salted_hmac

from tests.fuzz import values
from tests.storage import independent

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LAST_REVISION = 2**62  # of a session that opens
LARGEST_BODY = 15_000_000  # bytes
PLAIN, DEFLATED, MOVED = b"\x01", b"\x02", b"\x05"
ENCRYPTED = (b"\x03", b"\x04")
MASTER_KEY = bytes(range(32))  # of the world in which sessions are encrypted

_MARKER = -1
_DATES = ["expires_at", "created_at", "seen_at"]
_FIRST, _LAST = -62135596800000, 253402300799999  # milliseconds that `datetime` holds
_OPTIONS: CodecOptions[dict[str, Any]] = values.AS_HELD.with_options(
    uuid_representation=UuidRepresentation.STANDARD
)
_KEY = set(string.ascii_letters + string.digits + string.punctuation) - set('",;\\')
_DEEPEST = 100  # brackets; how many more can be read is a matter of the stack


class Held(NamedTuple):
    """What a document is worth."""

    write_id: Any  # as MongoDB compares it, even if PyMongo cannot decode the document
    is_spared: bool  # by a delete, for the same reason
    exists: bool
    revision: Any = None
    is_expired: bool = False
    sealed: bytes | None = None  # what one of our keys has sealed
    body: bytes | None = None  # the same, decompressed
    data: dict[str, Any] | None = None  # None: it must be refused
    is_deep: bool = False  # then it may be read and may be refused
    target: bytes | None = None  # where the session has moved, if one of our keys has sealed that

    @property
    def is_marker(self) -> bool:
        """Whether it is a marker, and not a session."""
        return _is_marker(self.revision)

    @property
    def is_there(self) -> bool:
        """Whether a read returns a session, or refuses it."""
        return not self.is_expired and not self.is_marker

    @property
    def may_open(self) -> bool:
        """Whether a read may return its data."""
        return self.data is not None or self.is_deep


def id_of(key: object) -> bytes | None:
    """Return the `_id` of a session key; None if it is not one."""
    if not isinstance(key, str) or not 32 <= len(key) <= 128 or not set(key) <= _KEY:
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
def read(
    raw: bytes, document_id: bytes, keys: tuple[str, ...], now: datetime, cookie: str = ""
) -> Held:
    """Read a document; an encrypted one with its cookie."""
    stored = bson.decode(raw, values.AS_HELD)
    held = Held(
        stored.get("write_id"), values.equals(stored.get("revision"), _MARKER), _exists(stored, now)
    )
    marker = _decoded(stored, ["payload", "created_at", "revision"])
    if marker is not None:
        form, target = _opened(marker, document_id, keys, cookie)
        is_young = target is not None and milliseconds(now) - int(marker["created_at"]) < 60_000
        held = held._replace(target=target if form == MOVED and is_young else None)
    document = _decoded(stored, [*_DATES, "payload", "revision", "write_id"])
    if document is None:  # then nothing is known of its date
        return held
    held = held._replace(revision=document.get("revision"), is_expired=_is_over(document, now))
    form, sealed = _opened(document, document_id, keys, cookie)
    if sealed is None or not _is_whole(document):
        return held
    held, body = held._replace(sealed=sealed), sealed
    if form == DEFLATED:
        inflater = zlib.decompressobj()
        try:
            body = inflater.decompress(sealed, LARGEST_BODY + 1)
        except zlib.error:
            return held
        if len(body) > LARGEST_BODY or not inflater.eof:
            return held
    elif form != PLAIN:
        return held
    is_deep = body.count(b"[") + body.count(b"{") > _DEEPEST
    return held._replace(body=body, data=_loaded(body), is_deep=is_deep)


def _decoded(stored: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """Return the fields with these names, None if PyMongo cannot decode them."""
    fields = {name: stored[name] for name in names if name in stored}
    try:
        return bson.decode(bson.encode(fields, codec_options=values.AS_HELD), _OPTIONS)
    except InvalidBSON:
        return None


def _exists(stored: Mapping[str, Any], now: datetime) -> bool:
    fields = _decoded(stored, ["expires_at", "revision"])
    if fields is None:
        return True
    return not _is_over(fields, now) and not _is_marker(fields.get("revision"))


def _is_over(document: Mapping[str, Any], now: datetime) -> bool:
    expires_at = document.get("expires_at")
    return _is_date(expires_at) and int(expires_at) <= milliseconds(now)


def _is_marker(revision: Any) -> bool:
    return isinstance(revision, (int, float)) and revision == _MARKER


def _opened(
    document: Mapping[str, Any], document_id: bytes, keys: Sequence[str], cookie: str
) -> tuple[bytes | None, bytes | None]:
    """Return a payload's form and what is sealed in it; None for both if no key opens it."""
    payload, created_at = document.get("payload"), document.get("created_at")
    if isinstance(payload, bytes) and _is_date(created_at):
        form, sealed = payload[:1], payload[33:]
        if form in ENCRYPTED:
            binding = document_id + int(created_at).to_bytes(8, "big", signed=True)
            try:
                is_deflated, body = independent.decrypted(MASTER_KEY, payload, binding, cookie)
            except (AssertionError, InvalidTag):
                return None, None
            return DEFLATED if is_deflated else PLAIN, body
        if payload in [seal(form, document_id, int(created_at), sealed, key) for key in keys]:
            return form, sealed
    return None, None


def _is_date(value: Any) -> bool:
    return isinstance(value, DatetimeMS) and _FIRST <= int(value) <= _LAST


def _is_whole(document: Mapping[str, Any]) -> bool:
    """Return whether the fields beside the payload are those of a session."""
    revision, write_id = document.get("revision"), document.get("write_id")
    return (
        all(_is_date(document.get(name)) for name in _DATES)
        and isinstance(revision, int)
        and not isinstance(revision, bool)
        and 0 <= revision <= LAST_REVISION
        and isinstance(write_id, bytes)
        and len(write_id) == 12
    )


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
