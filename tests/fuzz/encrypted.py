"""Encrypted payloads, altered or of any bytes: only what was encrypted opens."""

from __future__ import annotations

from django.core.signing import BadSignature

from django_mongo_sessions.storage import codec, keyring
from tests.fuzz import model
from tests.fuzz.data import Data
from tests.fuzz.forging import mutilated
from tests.fuzz.world import ID, KEY

_BINDING = ID + bytes(8)
_RING = keyring.Ring([keyring.MasterKey(model.MASTER_KEY), keyring.MasterKey(bytes(32))])


def check(raw: bytes) -> None:
    """Open a payload that was encrypted, and then altered as the bytes say."""
    data = Data(raw)
    cookie = KEY if data.flag() else ""
    is_first, compress_from = data.flag(), 0 if data.flag() else 1000
    body = data.take(data.byte())
    key = _RING.keys[0 if is_first else 1]
    whole = codec.encrypt(body, _BINDING, cookie, key, compress_from)
    payload = data.take(512) if data.byte() < 32 else mutilated(data, whole)
    try:
        opened = codec.decrypt(payload, _BINDING, cookie, _RING)
    except (BadSignature, ValueError):
        assert payload != whole
        return
    assert payload == whole
    assert opened == (body, is_first and bool(cookie))
