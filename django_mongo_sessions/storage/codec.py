"""From a session's dict to the bytes that MongoDB holds, and back.

There are two layers. `dump` and `load` turn the dict into a body with the project's serializer.
`seal` and `unseal` turn a body into a payload: one byte that names the form, a seal, and the body.

    form (1) | HMAC-SHA256 over form, binding and the rest (32) | body, perhaps compressed

`encrypt` and `decrypt` do so with a key of the site's. Every payload has a key of its own, derived
from that one, from all that comes before the commitment, from the binding and, in the form `BOUND`,
from the session's key, which is not stored. SECRET_KEY plays no part.

    form (1) | id of the site's key (4) | salt (24) | commitment (32) | AES-256-GCM of:
        whether it is compressed (1) | length of the body (4) | body | zeros

The last 12 bytes of the salt are the nonce. The commitment is derived with the key, so a payload
opens with one key alone, which AES-GCM by itself does not ensure. The zeros hide all of the length
but its magnitude.

A payload of the form `MOVED` is a pointer: its body is the id of the document that a session has
moved to.

The binding names the document that the payload belongs to, so a payload that is copied to another
document does not open. The seal stops forging and moving; it hides nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hmac import HMAC, compare_digest
from typing import Any, Literal

from django.core.signing import BadSignature
from django.utils.crypto import constant_time_compare, salted_hmac

from django_mongo_sessions.storage import keyring

PLAIN = b"\x01"
DEFLATED = b"\x02"
UNBOUND = b"\x03"  # encrypted with the site's key alone
BOUND = b"\x04"  # encrypted with the site's key and the session's own
MOVED = b"\x05"

_SEAL_END = 1 + 32
_KEY_ID_END = 1 + keyring.ID_LENGTH
_NONCE_LENGTH = 12
_HEADER_END = _KEY_ID_END + 12 + _NONCE_LENGTH
_COMMITMENT_END = _HEADER_END + 32
_PADDED_FROM = 256  # bytes
_IS_DEFLATED = b"\x01"
# Part of the stored format, and not the path of a module: if it changes, no stored session opens.
_SALT = "django_mongo_sessions.codec"
# MongoDB accepts documents of up to 16 MiB, and there are other fields. The limit is for the body,
# and not for the payload: a session that compresses well could otherwise grow without limit.
MAX_BODY = 15_000_000  # bytes
# Of zlib. Higher levels take up to seven times as long, and save little more: 64 kB of JSON become
# 15 kB with this one, and 12 kB with the highest.
_LEVEL = 1


class Payload(bytes):
    """A payload to be stored, whose text says nothing of the session.

    Whatever listens to PyMongo's commands, such as a tracing library, may send the text of them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<payload of {len(self)} bytes>"

    __str__ = __repr__


def dump(serializer: Callable[[], Any], data: Mapping[str, Any]) -> bytes:
    """Serialize a session's dict.

    If the serializer fails, raises ValueError for a ValueError, and TypeError for any other error.
    Both name the session key at fault.
    """
    try:
        body: bytes = serializer().dumps(data)
    except Exception:
        for key, value in data.items():
            try:
                serializer().dumps({key: value})
            except Exception as error:
                kind = ValueError if isinstance(error, ValueError) else TypeError
                raise kind(
                    f"{serializer.__name__} cannot store session key {key!r}: {error}"
                ) from error
        raise
    return body


def load(serializer: Callable[[], Any], body: bytes) -> dict[str, Any]:
    """Return the dict that a body holds; raise ValueError if it holds none."""
    try:
        data = serializer().loads(body)
    except Exception as error:  # unpickling may raise anything
        raise ValueError(f"{serializer.__name__} cannot read the body") from error
    if not isinstance(data, dict):
        raise ValueError("the body is not a dict")
    return data


def seal(
    body: bytes, binding: bytes, key: str | bytes, compress_from: int | Literal[False]
) -> Payload:
    """Return the payload of a body for one document.

    A body of `compress_from` bytes or more is compressed if that makes it smaller. With False, no
    body is compressed.
    """
    is_deflated, body = _deflate(body, compress_from)
    return _close(DEFLATED if is_deflated else PLAIN, body, binding, key)


def _deflate(body: bytes, compress_from: int | Literal[False]) -> tuple[bool, bytes]:
    if compress_from is not False and len(body) >= compress_from:
        deflated = zlib.compress(body, _LEVEL)
        if len(deflated) < len(body):
            return True, deflated
    return False, body


def unseal(payload: bytes, binding: bytes, keys: Sequence[str | bytes]) -> tuple[bytes, bool]:
    """Return the body of a payload, and whether it was sealed with the first of the keys.

    The seal is checked before anything else is done with the bytes. Raises BadSignature if no key
    opens the payload. Raises ValueError if this version does not know the form, or if the body
    cannot be decompressed or is too large.
    """
    form, body, key = _open(payload, binding, keys)
    if form == DEFLATED:
        body = _inflate(body)
    elif form != PLAIN:
        raise ValueError(f"the payload's form {form.hex()} is unknown")
    return body, key is keys[0]


def _inflate(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(deflated, MAX_BODY + 1)
    except zlib.error as error:
        raise ValueError("the payload cannot be decompressed") from error
    if len(body) > MAX_BODY:
        raise ValueError(f"the body has more than {MAX_BODY:,} bytes")
    if not inflater.eof:
        raise ValueError("the payload cannot be decompressed")
    return body


def seal_pointer(target: bytes, binding: bytes, key: str | bytes) -> Payload:
    """Return the payload that says to which document's id a session has moved."""
    return _close(MOVED, target, binding, key)


def unseal_pointer(payload: bytes, binding: bytes, keys: Sequence[str | bytes]) -> bytes:
    """Return the id of the document that a session has moved to.

    Raises BadSignature if no key opens the payload, and ValueError if it is not a pointer.
    """
    form, target, _ = _open(payload, binding, keys)
    if form != MOVED:
        raise ValueError(f"the payload's form {form.hex()} is not a pointer")
    return target


class UnknownKey(BadSignature):
    """A payload is encrypted with a key that is not in the ring."""


def is_encrypted(payload: bytes) -> bool:
    """Return whether a payload says that it is encrypted."""
    return payload[:1] in (UNBOUND, BOUND)


def key_id(payload: bytes) -> bytes:
    """Return the id of the site's key that an encrypted payload names."""
    return payload[1:_KEY_ID_END]


def encrypt(
    body: bytes,
    binding: bytes,
    session_key: str,
    key: keyring.MasterKey,
    compress_from: int | Literal[False],
) -> Payload:
    """Return the encrypted payload of a body for one document.

    It opens only with the session's key, or with any if the key given here is empty. See seal() for
    `compress_from`: the length of what is compressed tells something about it.
    """
    form = BOUND if session_key else UNBOUND
    header = form + key.id + os.urandom(_HEADER_END - _KEY_ID_END)
    secret, commitment = _derive(key, header, binding, session_key)
    is_deflated, body = _deflate(body, compress_from)
    text = is_deflated.to_bytes(1, "big") + len(body).to_bytes(4, "big") + body
    text = text.ljust(_padded(len(text)), b"\0")
    nonce = header[-_NONCE_LENGTH:]
    return Payload(header + commitment + keyring.encrypt(secret, nonce, text, header + binding))


def decrypt(
    payload: bytes, binding: bytes, session_key: str, ring: keyring.Ring
) -> tuple[bytes, bool]:
    """Return the body of an encrypted payload, and whether it is as `encrypt` would make it now.

    It is if it is bound to the session's key, and the ring's first key has encrypted it. Raises
    UnknownKey if the ring has no key of its id, BadSignature if no key opens it, and ValueError if
    the body cannot be decompressed, or is too large.
    """
    header, commitment = payload[:_HEADER_END], payload[_HEADER_END:_COMMITMENT_END]
    named = key_id(payload)
    keys = ring.named(named)
    if not keys:
        raise UnknownKey(f"no encryption key has the id {named.hex()}")
    try:
        for key in keys:
            secret, expected = _derive(key, header, binding, session_key)
            if compare_digest(commitment, expected):
                text = keyring.decrypt(
                    secret,
                    header[-_NONCE_LENGTH:],
                    memoryview(payload)[_COMMITMENT_END:],
                    header + binding,
                )
                return _body(text), header[:1] == BOUND and key is ring.first
        raise BadSignature("its commitment does not match")
    except BadSignature as error:
        raise BadSignature(f"it does not open with the key {named.hex()}: {error}") from None


def _body(text: bytes) -> bytes:
    """Return the body in a decrypted text."""
    body = text[5 : 5 + int.from_bytes(text[1:5], "big")]
    return _inflate(body) if text[:1] == _IS_DEFLATED else body


def _derive(
    key: keyring.MasterKey, header: bytes, binding: bytes, session_key: str
) -> tuple[bytes, bytes]:
    """Return the key and the commitment of one payload.

    Only the session's key has no fixed length, and it comes last, so no two inputs are the same.
    """
    cookie = session_key.encode() if header[:1] == BOUND else b""
    derived = key.derive(b"payload\0" + header + binding + cookie, 64)
    return derived[:32], derived[32:]


def _padded(length: int) -> int:
    """Return the length with zeros, at most 12 % more: Padmé, of https://lbarman.ch/blog/padme/."""
    length = max(length, _PADDED_FROM)
    magnitude = length.bit_length() - 1
    rounded = (1 << (magnitude - magnitude.bit_length())) - 1
    return (length + rounded) & ~rounded


def largest_keys(
    serializer: Callable[[], Any], data: Mapping[str, Any], most: int = 3
) -> dict[str, int]:
    """Return the keys with the largest values, and their size in bytes, largest first."""
    sizes = {key: len(serializer().dumps({key: value})) for key, value in data.items()}
    return dict(sorted(sizes.items(), key=lambda item: item[1], reverse=True)[:most])


def _close(form: bytes, body: bytes, binding: bytes, key: str | bytes) -> Payload:
    return Payload(form + _mac(form, binding, body, key) + body)


def _open(
    payload: bytes, binding: bytes, keys: Sequence[str | bytes]
) -> tuple[bytes, bytes, str | bytes]:
    """Return the form, the body as stored, and the key that the payload was sealed with."""
    form, mac, body = payload[:1], payload[1:_SEAL_END], payload[_SEAL_END:]
    for key in keys:
        if constant_time_compare(mac, _mac(form, binding, body, key)):
            return form, body, key
    raise BadSignature("the seal does not match")


def _mac(form: bytes, binding: bytes, body: bytes, key: str | bytes) -> bytes:
    mac = _keyed(key).copy()
    mac.update(form + binding + body)
    return mac.digest()


@lru_cache(maxsize=16)
def _keyed(key: str | bytes) -> HMAC:
    """Return Django's `salted_hmac` of no data yet: deriving its key takes longer than sealing."""
    return salted_hmac(_SALT, b"", secret=key, algorithm="sha256")


def describe(payload: bytes) -> dict[str, Any]:
    """Return the parts of a payload, to be shown: nothing of it is checked.

    "form" and "seal" are hexadecimal, "bytes" is the size of the body as stored, and "text" is the
    body, or None if it is compressed, encrypted, or has an unknown form. An encrypted payload has
    the "key_id" instead of a seal.
    """
    form, mac, body = payload[:1], payload[1:_SEAL_END], payload[_SEAL_END:]
    if is_encrypted(payload):
        return {
            "form": form.hex(),
            "form_name": "encrypted, and bound to its cookie" if form == BOUND else "encrypted",
            "key_id": key_id(payload).hex(),
            "bytes": len(payload[_COMMITMENT_END:]),
            "text": None,
        }
    return {
        "form": form.hex(),
        "form_name": {PLAIN: "sealed", DEFLATED: "sealed and compressed"}.get(form, "unknown"),
        "seal": mac.hex(),
        "bytes": len(body),
        "text": body.decode(errors="replace") if form == PLAIN else None,
    }
