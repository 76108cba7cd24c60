"""Encrypted payloads, altered or of any bytes: only what was encrypted opens."""

from __future__ import annotations

from django.core.signing import BadSignature

from django_mongo_sessions.storage import codec, keyring
from tests.fuzz import model
from tests.fuzz.data import Data
from tests.fuzz.forging import mutilated
from tests.fuzz.world import ID, KEY, world
from tests.storage import independent

_BINDING = ID + bytes(8)
_SECRETS = model.MASTER_KEY, bytes(32)
_RING = keyring.Ring([keyring.MasterKey(secret) for secret in _SECRETS])


def check(raw: bytes) -> None:
    """Open a payload that was encrypted, and then altered as the bytes say."""
    data = Data(raw)
    cookie = KEY if data.flag() else ""
    is_first, compress_from = data.flag(), 0 if data.flag() else 1000
    body = data.take(data.byte())
    number = 0 if is_first else 1
    whole = codec.encrypt(body, _BINDING, cookie, _RING.keys[number], compress_from)
    _, world.deflated = independent.decrypted(_SECRETS[number], whole, _BINDING, cookie)
    payload = data.take(512) if data.byte() < 32 else mutilated(data, whole)
    try:
        opened = codec.decrypt(payload, _BINDING, cookie, _RING)
    except (BadSignature, ValueError):
        assert payload != whole
        return
    assert payload == whole
    assert opened == (body, is_first and bool(cookie))
