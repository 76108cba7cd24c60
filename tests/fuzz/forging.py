"""Payloads and documents as only a forger or a broken host would store them.

A document has an identity of its own, and is no marker, unless its first byte is one of `_POINTERS`
or `_WRITE_IDS`.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import bson
from bson import Binary, DatetimeMS
from django.conf import settings

from tests.fuzz import model, values
from tests.fuzz.collection import CODEC_OPTIONS
from tests.fuzz.data import Data
from tests.fuzz.guards import OLD_KEY
from tests.fuzz.world import ID, NOW, VICTIMS_ID, world

_NOW = model.milliseconds(NOW)
_ANOTHER_ID = model.id_of("another0key0of0our0own0for0hosts")
_POINTERS, _WRITE_IDS = range(80, 96), range(240, 248)
# What expands a thousandfold: one that can be read, one that nests too deep, and a large one.
BOMBS = [
    zlib.compress(b"{}" + b" " * 2**20, 9),
    zlib.compress(b"[" * 2**17, 9),
    zlib.compress(b" " * 2**26, 9),
]


def body(data: Data) -> bytes:
    """Return a session as it is stored, or bytes that are not one."""
    if data.flag():
        return data.take(data.byte() * data.choice([1, 8]))
    return json.dumps(values.session(data)).encode()


def payload(data: Data, created_at: int) -> bytes:
    """Return a payload that may or may not open for the document of our key."""
    if data.byte() < 32:
        return data.take(data.byte() * 2)
    form, content = model.PLAIN, body(data)
    kind = data.byte()
    if kind < 64:
        form, content = model.DEFLATED, zlib.compress(content, 1)
    elif kind < 80:
        form = model.DEFLATED
    elif kind < 96:
        form = data.take(1)
    elif kind < 104:
        form, content = model.DEFLATED, data.choice(BOMBS[:2])
    elif kind < 112:  # made up without a key
        return data.choice([model.PLAIN, model.DEFLATED]) + data.take(32) + data.choice(BOMBS)
    key = data.choice([settings.SECRET_KEY] * 13 + [OLD_KEY] * 2 + ["another site's key"])
    document_id = VICTIMS_ID if data.byte() < 16 else ID
    moment = created_at + (data.byte() if data.byte() < 16 else 0)
    return mutilated(data, model.seal(form, document_id, moment, content, key))


def mutilated(data: Data, whole: bytes) -> bytes:
    """Return a payload as it is, or cut, or altered, or with more at its end."""
    kind = data.byte()
    if kind < 160:
        return whole
    if kind < 192:
        return whole[: data.byte()]
    if kind < 208:
        return whole + data.binary()
    place = data.byte() % len(whole)
    return whole[:place] + bytes([whole[place] ^ data.byte()]) + whole[place + 1 :]


def document_of(payload: bytes, created_at: int = _NOW) -> dict[str, Any]:
    """Return the document of our key with this payload."""
    return {
        "_id": ID,
        "payload": payload,
        "expires_at": DatetimeMS(_NOW + 3_600_000),
        "created_at": DatetimeMS(created_at),
        "seen_at": DatetimeMS(_NOW),
        "revision": 7,
        "write_id": world.forged_write_id(),
    }


def marker_of(payload: bytes, created_at: int = _NOW) -> dict[str, Any]:
    """Return a marker with this payload under our key."""
    document = document_of(payload, created_at)
    del document["seen_at"]
    return {**document, "expires_at": DatetimeMS(_NOW + 60_000), "revision": -1}


def pointer(data: Data) -> dict[str, Any]:
    """Return a marker that may or may not lead to the victim's session."""
    if data.byte() < 16:
        return marker_of(b"")
    form = data.choice([model.MOVED] * 7 + [model.PLAIN])
    target = data.choice([VICTIMS_ID] * 6 + [ID, data.binary()])
    key = data.choice([settings.SECRET_KEY] * 5 + [OLD_KEY, "another site's key"])
    document_id = data.choice([ID] * 6 + [VICTIMS_ID, _ANOTHER_ID])
    moment = _NOW + (data.byte() if data.byte() < 16 else 0)
    payload = mutilated(data, model.seal(form, document_id, moment, target, key))
    revision = data.choice([-1] * 6 + [-1.0, 7])
    return {**marker_of(payload), "revision": revision}


def write_id(data: Data) -> Any:
    """Return the identity of the document that our key has, or of the victim's, or none."""
    kind = data.byte() % 4
    if kind < 2:
        raw = world.victims if kind else world.collection.stored.get(ID, world.victims)
        return bson.decode(raw, values.AS_HELD).get("write_id")
    if kind == 2:
        size = data.choice([0, 1, 11, 13, 12])
        return data.choice([bytes(size), Binary(bytes(size), 5), "t" * size, [bytes(size)]])
    return values.for_bson(data)


def sealed_document(data: Data) -> bytes | None:
    """Return a document as the engine stores it, but for its payload; None for none."""
    kind = data.byte()
    if kind < 8:
        return None
    document = pointer(data) if kind in _POINTERS else document_of(payload(data, _NOW))
    if kind in _WRITE_IDS:
        document["write_id"] = write_id(data)
    if data.byte() < 16:  # the victim's
        stolen = bson.decode(world.victims, CODEC_OPTIONS)
        document |= {"payload": stolen["payload"], "created_at": stolen["created_at"]}
    return bson.encode(document)


def any_document(data: Data) -> bytes | None:
    """Return a document with fields of any kind; None for none."""
    kind = data.byte()
    if kind < 8:
        return None
    if kind < 32:
        return _as_stored(data.take(data.byte() * 2))
    document = pointer(data) if kind in _POINTERS else _session_document(data)
    if kind in _WRITE_IDS:
        document["write_id"] = write_id(data)
    for _ in range(data.byte() % 4):
        fields = [name for name in document if name != "write_id"]
        field = data.choice([*fields, values.name(data)])
        how = data.byte() % 4
        if how == 0:
            document.pop(field, None)
        elif how == 1:
            document[field] = values.date(data, _NOW)
        elif how == 2:
            document[field] = data.integer()
        else:
            document[field] = values.for_bson(data)
    return bson.encode(document)


def _session_document(data: Data) -> dict[str, Any]:
    created_at = values.date(data, _NOW) if data.byte() < 64 else DatetimeMS(_NOW)
    content = json.dumps(values.session(data)).encode()
    key = OLD_KEY if data.byte() < 32 else settings.SECRET_KEY
    sealed = model.seal(model.PLAIN, ID, int(created_at), content, key)
    return document_of(sealed, int(created_at))


def _as_stored(raw: bytes) -> bytes | None:
    """Return bytes that are a document, with our id."""
    try:
        document = bson.decode(raw, CODEC_OPTIONS)
    except bson.errors.InvalidBSON:  # which MongoDB hardly stores
        return None
    return bson.encode({**document, "_id": ID}, codec_options=CODEC_OPTIONS)
