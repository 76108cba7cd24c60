"""What it costs to compress a session, and what it saves: the figures behind `COMPRESS`.

`python -m benchmarks compress` prints them. The sessions look like real ones, of four kinds. Times
are processor time, which a busy machine changes little, and the ways to store a session take turns.
"""

from __future__ import annotations

import base64
import json
import random
import time
import zlib
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any, NamedTuple

from pymongo import MongoClient, WriteConcern

from benchmarks import payloads
from django_mongo_sessions.storage import codec

SIZES = [1_000, 4_000, 16_000, 64_000]  # bytes of JSON
LEVELS = [None, 1, 6, 9]  # of zlib; None stores the body as it is
GIGABIT = 8e-3  # microseconds for one byte at 1 Gbit/s
_ROUNDS, _OPERATIONS = 10, 40
_BINDING, _KEY = bytes(41), "not a secret: the benchmarks' key is public"

_TEXT = """
the order arrives at your address before Friday unless a product is out of stock please check that
phone number and postal code are correct thank you we have changed delivery options for blue cotton
shirt large oak shelf second edition lamp with cable and remote control
"""
_WORDS = _TEXT.split()


class Body(NamedTuple):
    """A session as JSON: what it looks like, and its bytes."""

    kind: str
    size: int
    json: bytes


# Sessions that look like real ones


def bodies() -> list[Body]:
    """Return a body of each kind and size, the same at each call."""
    kinds = {"cart": _line, "form wizard": _step, "messages": _message, "OAuth": _grant}
    return [
        Body(kind, size, _filled(part, size, random.Random(f"{kind} {size}")))
        for (kind, part), size in product(kinds.items(), SIZES)
    ]


def _filled(part: Callable[[random.Random], Any], size: int, chance: random.Random) -> bytes:
    """Return the JSON of a signed-in session, with parts until it has at least that size."""
    session: dict[str, Any] = {**payloads.SIGNED_IN, "_language": "en-gb", "parts": []}
    while payloads.length(session) < size:
        session["parts"].append(part(chance))
    return json.dumps(session, separators=(",", ":")).encode("latin-1")


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _token(chance: random.Random, length: int) -> str:
    return base64.urlsafe_b64encode(chance.randbytes(length)).decode().rstrip("=")


def _line(chance: random.Random) -> dict[str, Any]:
    """Return a line of a cart."""
    name = _text(chance, 3)
    return {
        "product_id": chance.randrange(10_000, 99_999),
        "sku": f"{chance.getrandbits(40):010X}",
        "name": name.title(),
        "url": f"/shop/{name.replace(' ', '-')}/",
        "quantity": chance.randint(1, 5),
        "unit_price": f"{chance.randrange(199, 19_999) / 100:.2f}",
        "currency": "EUR",
        "added_at": f"2026-11-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:17:05.214Z",
    }


def _step(chance: random.Random) -> dict[str, Any]:
    """Return a step of a form wizard, as django-formtools stores it."""
    number = chance.randrange(9)
    return {
        f"step{number}-email": [f"{_text(chance, 1)}{chance.randrange(999)}@example.com"],
        f"step{number}-street": [f"{_text(chance, 2)} {chance.randint(1, 200)}"],
        f"step{number}-postal_code": [f"{chance.randrange(10_000, 99_999)}"],
        f"step{number}-accepts_terms": ["on"],
        f"step{number}-remarks": [_text(chance, 25)],
    }


def _message(chance: random.Random) -> list[Any]:
    """Return a message, as django.contrib.messages stores it."""
    return ["__json_message", 0, chance.choice([20, 25, 30, 40]), _text(chance, 14), ""]


def _grant(chance: random.Random) -> dict[str, Any]:
    """Return a sign-in with OAuth: the state of the request, and the tokens that came back."""
    return {
        "state": _token(chance, 24),
        "code_verifier": _token(chance, 48),
        "access_token": f"eyJhbGciOiJSUzI1NiJ9.{_token(chance, 180)}.{_token(chance, 256)}",
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "openid profile email",
    }


# What sealing and opening costs


def measure(uri: str) -> list[dict[str, Any]]:
    """Return a row for each body and level, with times in microseconds of processor time.

    `bytes` is the size of the payload. `processor` is for sealing and opening, once each. `client`
    and `server` are for one `find_one` and one `update_one` of the payload over loopback, beside
    that. `gigabit` is the time that the payload is on the wire at 1 Gbit/s, there and back.
    """
    with MongoClient[dict[str, Any]](uri) as client:
        collection = client["benchmarks"].get_collection(
            "compression", write_concern=WriteConcern("majority")
        )
        return [row for body in bodies() for row in _measured(body, collection)]


def _measured(body: Body, collection: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for level in LEVELS:
        payload = _sealed(body.json, level)
        collection.replace_one({"_id": level}, {"payload": payload}, upsert=True)
        rows.append({"kind": body.kind, "size": body.size, "level": level, "bytes": len(payload)})
    taken: list[list[tuple[float, float, float]]] = [[] for _ in LEVELS]
    for turn in range(_ROUNDS + 1):
        for number, level in enumerate(LEVELS):
            round_trip = _round_trip(body.json, level, collection)
            if turn:  # not in the first round
                taken[number].append(round_trip)
    for row, rounds in zip(rows, taken, strict=True):
        processor, client, server = map(median, zip(*rounds, strict=True))
        row.update(processor=processor, client=client, server=server)
        row["gigabit"] = 2 * row["bytes"] * GIGABIT
    return rows


def _round_trip(body: bytes, level: int | None, collection: Any) -> tuple[float, float, float]:
    """Return the microseconds of processor time: sealing and opening, the calls, the server."""
    server, began = _busy(collection), time.process_time_ns()
    for _ in range(_OPERATIONS):
        payload = _sealed(body, level)
        _opened(payload, level)
    sealed = time.process_time_ns()
    for _ in range(_OPERATIONS):
        collection.find_one({"_id": level})
        collection.update_one({"_id": level}, {"$set": {"payload": payload}, "$inc": {"n": 1}})
    ended = time.process_time_ns()
    return (
        (sealed - began) / _OPERATIONS / 1_000,
        (ended - sealed) / _OPERATIONS / 1_000,
        (_busy(collection) - server) / _OPERATIONS,
    )


def _busy(collection: Any) -> int:
    """Return the microseconds of processor time that the server has used. Linux knows them."""
    known: dict[str, int] = collection.database.command("serverStatus")["extra_info"]
    return known["user_time_us"] + known["system_time_us"]


def _sealed(body: bytes, level: int | None) -> bytes:
    stored = body if level is None else zlib.compress(body, level)
    return codec.seal(stored, _BINDING, _KEY, False)


def _opened(payload: bytes, level: int | None) -> bytes:
    stored, _ = codec.unseal(payload, _BINDING, [_KEY])
    return stored if level is None else zlib.decompress(stored)


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table of the rows."""
    head = ["session", "bytes", "level", "stored", "processor", "client", "server", "1 Gbit/s"]
    plain: dict[str, Any] = {}
    lines = [head, ["---"] * len(head)]
    for row in rows:
        plain = row if row["level"] is None else plain
        times = [f"{row[name]:.0f}" for name in ("processor", "client", "server", "gigabit")]
        level = "none" if row["level"] is None else str(row["level"])
        share = f"{row['bytes']:,} ({row['bytes'] / plain['bytes']:.0%})"
        lines.append([row["kind"], f"{row['size']:,}", level, share, *times])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
