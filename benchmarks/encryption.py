"""What it costs to encrypt a session: `python -m benchmarks encrypt` prints it.

Sealed and encrypted sessions are loaded and saved in turn, each time one of both, so whatever slows
the machine down slows both down. Sealed sessions are compressed from 4,096 bytes on, which is the
default, and encrypted ones are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from django.conf import settings
from django.test import override_settings

from benchmarks import payloads
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.conf import KEYS
from django_mongo_sessions.storage import codec, keyring

_ROUNDS = 2_000
_CLOSING = "processor time to close and open"
_BINDING = bytes(41)
_KEY = "0123456789abcdefghijklmnopqrstuv"
_SECRET = bytes(range(32))


def measure(uri: str, rounds: int = _ROUNDS) -> list[dict[str, Any]]:
    """Return a row for each size and operation: microseconds sealed and encrypted, the medians."""
    # A change of the settings would make a new client each time, so their defaults change.
    with override_settings(MONGO_SESSIONS={"URI": uri, "DATABASE": "benchmarks"}):
        try:
            return [row for size in payloads.SIZES for row in _measured(size, rounds)]
        finally:
            KEYS["ENCRYPTION_KEYS"].default = None


def _measured(size: int, rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[list[float]]] = {}
    keys: list[str] = []
    for is_encrypted in (False, True):
        _switch(is_encrypted)
        store = SessionStore()
        store.update(payloads.data(size))
        store.save()
        keys.append(store.session_key or "")
    for turn in range(rounds + 1):
        for is_encrypted in (False, True):
            _switch(is_encrypted)
            for name, call in _operations(keys[is_encrypted], size).items():
                clock = time.process_time_ns if name == _CLOSING else time.perf_counter_ns
                began = clock()
                call()
                took = (clock() - began) / 1_000
                if turn:  # not in the first round
                    found.setdefault(name, [[], []])[is_encrypted].append(took)
    return [
        {"operation": name, "size": size, "sealed": median(sealed), "encrypted": median(encrypted)}
        for name, (sealed, encrypted) in found.items()
    ]


def _switch(is_encrypted: bool) -> None:
    KEYS["ENCRYPTION_KEYS"].default = _KEYS if is_encrypted else None


_KEYS = [_SECRET]
_RING = keyring.Ring([keyring.MasterKey(_SECRET)])


def _operations(key: str, size: int) -> dict[str, Callable[[], object]]:
    store = SessionStore(key)

    def load() -> None:
        store.load()

    def save() -> None:
        store["count"] = 1_000 + time.perf_counter_ns() % 9_000
        store.save()

    return {"load": load, "save": save, _CLOSING: _closing(size)}


def _closing(size: int) -> Callable[[], object]:
    """Return a function that closes and opens a payload, without a server."""
    body = codec.dump(SessionStore().serializer, payloads.data(size))
    if KEYS["ENCRYPTION_KEYS"].default is None:
        secret = settings.SECRET_KEY
        return lambda: codec.unseal(codec.seal(body, _BINDING, secret, 4096), _BINDING, [secret])
    return lambda: codec.decrypt(
        codec.encrypt(body, _BINDING, _KEY, _RING.first, False), _BINDING, _KEY, _RING
    )


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table of the rows."""
    lines = [["operation", "bytes", "sealed", "encrypted", "ratio"], ["---"] * 5]
    for row in rows:
        sealed, encrypted = row["sealed"], row["encrypted"]
        times = [f"{sealed:.1f} µs", f"{encrypted:.1f} µs", f"{encrypted / sealed:.2f}"]
        lines.append([row["operation"], f"{row['size']:,}", *times])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
