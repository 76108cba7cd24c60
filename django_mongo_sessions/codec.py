"""From a session's dict to the bytes that MongoDB holds, and back. No I/O happens here.

Two layers: `dump` and `load` turn the dict into a body by the project's serializer; `close` and
`open` turn a body into a payload. A payload is one byte that names its form, a seal, and the body:

    form (1) | HMAC-SHA256 over form, binding and the rest (32) | body, perhaps compressed

The binding names the document that the payload belongs to, so that a payload copied onto another
one does not open. The seal stops forging and moving; it hides nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hmac import HMAC
from typing import Any

from django.core.signing import BadSignature
from django.utils.crypto import constant_time_compare, salted_hmac

SEALED = b"\x01"
COMPRESSED = b"\x02"

_SEAL_END = 1 + 32
_SALT = "django_mongo_sessions.codec"
# Smaller bodies gain less on the wire than compressing costs.
_WORTH_COMPRESSING = 1024  # bytes


def dump(serializer: Callable[[], Any], data: Mapping[str, Any]) -> bytes:
    """Serialize a session's dict.

    Raises ValueError where the serializer does, and TypeError for whatever else it raises; both
    name the session key at fault.
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
    """Return the dict that a body holds; raise ValueError where it holds none."""
    try:
        data = serializer().loads(body)
    except Exception as error:  # unpickling may raise anything
        raise ValueError(f"{serializer.__name__} cannot read the body") from error
    if not isinstance(data, dict):
        raise ValueError("the body is not a dict")
    return data


def close(body: bytes, binding: bytes, key: str | bytes) -> bytes:
    """Compress a body where that is worth it, and seal it for one document."""
    form = SEALED
    if len(body) >= _WORTH_COMPRESSING:
        compressed = zlib.compress(body, 1)
        if len(compressed) < len(body):
            form, body = COMPRESSED, compressed
    return form + _seal(form, binding, body, key) + body


def open(payload: bytes, binding: bytes, keys: Sequence[str | bytes]) -> tuple[bytes, bool]:
    """Return the body of a payload, and whether the first of the keys had sealed it.

    The seal is checked before anything else is done with the bytes. Raises BadSignature where no
    key opens the payload, and ValueError for a form that this version does not know, and for a
    body that cannot be decompressed.
    """
    form, seal, body = payload[:1], payload[1:_SEAL_END], payload[_SEAL_END:]
    for key in keys:
        if constant_time_compare(seal, _seal(form, binding, body, key)):
            break
    else:
        raise BadSignature("the seal does not match")
    if form == COMPRESSED:
        try:
            body = zlib.decompress(body)
        except zlib.error as error:
            raise ValueError("the payload cannot be decompressed") from error
    elif form != SEALED:
        raise ValueError(f"the payload's form {form.hex()} is unknown")
    return body, key is keys[0]


def largest_keys(
    serializer: Callable[[], Any], data: Mapping[str, Any], most: int = 3
) -> dict[str, int]:
    """Return the keys whose values take the most bytes, largest first, with those bytes."""
    sizes = {key: len(serializer().dumps({key: value})) for key, value in data.items()}
    return dict(sorted(sizes.items(), key=lambda item: item[1], reverse=True)[:most])


def _seal(form: bytes, binding: bytes, body: bytes, key: str | bytes) -> bytes:
    mac = _begun(key).copy()
    mac.update(form + binding + body)
    return mac.digest()


@lru_cache(maxsize=16)
def _begun(key: str | bytes) -> HMAC:
    """Return Django's `salted_hmac` of nothing yet. To derive its key takes longer than to seal."""
    return salted_hmac(_SALT, b"", secret=key, algorithm="sha256")
