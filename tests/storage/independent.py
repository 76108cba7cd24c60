"""The encrypted forms of a payload, a second time: on cryptography's own HKDF, from the format."""

import zlib

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SALT = b"django_mongo_sessions.encryption"


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA512(), length, SALT, info).derive(secret)


def derive(secret: bytes, payload: bytes, binding: bytes, cookie: str) -> tuple[bytes, bytes]:
    bound = cookie.encode() if payload[0] == 4 else b""
    derived = hkdf(secret, b"payload\0" + payload[:29] + binding + bound, 64)
    return derived[:32], derived[32:]


def opened(secret: bytes, payload: bytes, binding: bytes, cookie: str) -> bytes:
    is_deflated, body = decrypted(secret, payload, binding, cookie)
    return zlib.decompress(body) if is_deflated else body


def decrypted(secret: bytes, payload: bytes, binding: bytes, cookie: str) -> tuple[bool, bytes]:
    """Return whether what is encrypted is compressed, and what it is."""
    assert payload[0] in (3, 4)
    assert payload[1:5] == hkdf(secret, b"key id", 4)
    key, commitment = derive(secret, payload, binding, cookie)
    assert payload[29:61] == commitment
    text = AESGCM(key).decrypt(payload[17:29], payload[61:], payload[:29] + binding)
    end = 5 + int.from_bytes(text[1:5], "big")
    assert not any(text[end:])
    return text[0] == 1, text[5:end]


def closed(
    secret: bytes, form: int, salt: bytes, binding: bytes, cookie: str, text: bytes
) -> bytes:
    """Return the payload of a text that begins with its flag and its length."""
    header = bytes([form]) + hkdf(secret, b"key id", 4) + salt
    key, commitment = derive(secret, header, binding, cookie)
    return header + commitment + AESGCM(key).encrypt(salt[12:], text, header + binding)
