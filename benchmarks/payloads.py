"""The data of the measured sessions: the same bytes on every machine, of an exact length."""

from __future__ import annotations

import hashlib
import json
import random
from functools import cache
from typing import Any

# In bytes of JSON, as Django's serializer writes it.
SIZES = [400, 4_000, 64_000]

SIGNED_IN = {
    "_auth_user_id": "1",
    "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
    "_auth_user_hash": hashlib.sha256(b"a password").hexdigest(),
}
_WORDS = ["blue", "cotton", "large", "shirt", "second", "edition", "oak", "shelf", "lamp", "cable"]
_FIRST_COUNT, _LAST_COUNT = 1_000, 9_999


def data(size: int, signed_in: bool = True) -> dict[str, Any]:
    """Return a session of `size` bytes: a counter, the signed-in user, and a shopping cart.

    It is the same session at each call. Its values are shared, and must not be changed.
    """
    return dict(_data(size, signed_in))


@cache
def _data(size: int, signed_in: bool) -> dict[str, Any]:
    return random_data(size, signed_in, random.Random(size))


def random_data(size: int, signed_in: bool, chance: random.Random) -> dict[str, Any]:
    """Return such a session with random values."""
    cart: list[dict[str, Any]] = []
    session = {"count": _FIRST_COUNT, **(SIGNED_IN if signed_in else {}), "cart": cart, "note": ""}
    room = size - length(session)
    while True:
        item = _item(chance)
        needed = length(item) + bool(cart)  # and a comma
        if needed > room:
            break
        cart.append(item)
        room -= needed
    session["note"] = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz     ", k=room))
    return session


def _item(chance: random.Random) -> dict[str, Any]:
    return {
        "sku": f"{chance.getrandbits(48):012x}",
        "name": " ".join(chance.sample(_WORDS, 3)),
        "quantity": chance.randint(1, 9),
        "price": f"{chance.randint(100, 99_999) / 100:.2f}",
    }


def length(session: dict[str, Any]) -> int:
    """Return the length of a session's JSON in bytes."""
    return len(json.dumps(session, separators=(",", ":")).encode("latin-1"))


def next_count(count: int) -> int:
    """Return the next count. It has as many digits, so that a changed session keeps its length."""
    return _FIRST_COUNT if count == _LAST_COUNT else count + 1


def label(size: int) -> str:
    """Return a size as the tables show it: 0.4 kB for 400."""
    return f"{size / 1_000:g} kB"
