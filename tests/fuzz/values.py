"""Values of every kind that BSON and JSON have."""

from __future__ import annotations

import struct
from typing import Any

import bson
from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidBSON

from tests.fuzz.data import Data

# Decodes every document, with each value as MongoDB holds it.
AS_HELD: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
    uuid_representation=UuidRepresentation.UNSPECIFIED,
)

_DEEPEST = 6
# The first and the last millisecond that `datetime` holds, and their neighbours outside.
_EDGES = [-62135596800000, -62135596800001, 253402300799999, 253402300800000, 2**63 - 1, -(2**63)]

_MOMENTS = ["2026-01-02T03:04:05+00:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00+14:00"]


def holds(value: Any) -> bool:
    """Return whether PyMongo decodes a value with the options above. Before 4.20, it decodes no
    UUID of another length than 16 bytes.
    """
    try:
        bson.decode(bson.encode({"value": value}), AS_HELD)
    except InvalidBSON:
        return False
    return True


def equals(held: Any, value: Any) -> bool:
    """Return whether MongoDB finds a value in a field: numbers of each type are compared, an array
    has each value in it, and true is not 1.
    """
    held_values = [held, *held] if isinstance(held, list) else [held]
    return any(_equals(one, value) for one in held_values)


def _equals(one: Any, other: Any) -> bool:
    if isinstance(one, Decimal128):
        one = one.to_decimal()
        if one.is_nan():  # to compare a signaling one is an error
            return False
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def date(data: Data, now: int) -> DatetimeMS:
    """Return a date by its milliseconds: near now, at an edge, or any."""
    kind = data.byte() % 4
    if kind == 0:
        return DatetimeMS(now + int.from_bytes(data.take(1), "big", signed=True))
    if kind == 1:
        return DatetimeMS(data.choice(_EDGES))
    if kind == 2:
        return DatetimeMS(now + int.from_bytes(data.take(5), "big", signed=True))
    return DatetimeMS(int.from_bytes(data.take(8), "big", signed=True))


def for_bson(data: Data, depth: int = 0) -> Any:
    """Return a value that can be stored."""
    kinds = _LEAVES if depth == _DEEPEST else [*_LEAVES, _list, _dict]
    return data.choice(kinds)(data, depth)  # type: ignore[no-untyped-call]


def _list(data, depth):
    return [for_bson(data, depth + 1) for _ in range(data.byte() % 4)]


def _dict(data, depth):
    return {name(data): for_bson(data, depth + 1) for _ in range(data.byte() % 4)}


def name(data: Data) -> str:
    """Return a name for a field."""
    return storable(data).replace("\0", "")


def storable(data: Data) -> str:
    """Return text that UTF-8 can hold."""
    return data.binary().decode("utf-8", "replace")


def _float(data):
    return struct.unpack(">d", data.take(8).rjust(8, b"\0"))[0]


_LEAVES = [
    lambda data, depth: None,
    lambda data, depth: data.flag(),
    lambda data, depth: data.integer(),
    lambda data, depth: Int64(data.integer()),
    lambda data, depth: _float(data),
    lambda data, depth: storable(data),
    lambda data, depth: data.binary(),
    lambda data, depth: Binary(data.binary(), data.byte()),
    lambda data, depth: date(data, 0),
    lambda data, depth: ObjectId(data.take(12).rjust(12, b"\0")),
    lambda data, depth: Regex(name(data), data.byte()),
    lambda data, depth: Decimal128.from_bid(data.take(16).rjust(16, b"\0")),
    lambda data, depth: Timestamp(data.byte(), data.byte()),
    lambda data, depth: Code(storable(data), {} if data.flag() else None),
    lambda data, depth: DBRef(storable(data), data.integer()),
    lambda data, depth: data.choice([MinKey(), MaxKey()]),
]


def for_json(data: Data, depth: int = 0) -> Any:
    """Return a value that a session can hold."""
    kinds = 7 if depth == _DEEPEST else 9
    kind = data.byte() % kinds
    if kind < 2:
        return data.integer()
    if kind == 2:
        return data.text()
    if kind == 3:
        return data.choice([None, True, False, 0, "", [], {}])
    if kind == 4:
        return _float(data)
    if kind == 5:
        return data.choice([10**30, -(10**30), 10**400, float("inf"), float("nan"), -0.0])
    if kind == 6:
        return data.choice([*_MOMENTS, "\ud800"])
    if kind == 7:
        return [for_json(data, depth + 1) for _ in range(data.byte() % 4)]
    return {data.text(): for_json(data, depth + 1) for _ in range(data.byte() % 4)}


def session(data: Data) -> dict[str, Any]:
    """Return what a session may hold."""
    held = {}
    for _ in range(data.byte() % 4):
        kind = data.byte() % 8
        if kind == 0:
            held["_session_expiry"] = data.integer()
        elif kind == 1:
            held["_session_expiry"] = data.choice(_MOMENTS)
        elif kind == 2:
            held["_auth_user_id"] = storable(data)
        else:
            names = ["a", "b", "_auth_user_id", "_session_expiry", data.text()]
            held[data.choice(names[:kind])] = for_json(data)
    return held
