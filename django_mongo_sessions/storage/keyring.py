"""The keys that encrypt sessions: what a site may set, and what is derived from each of them.

Only `ENCRYPTION_KEYS` leads here: without it, nothing of this is run, and `cryptography` is not
imported. No lock is held while the site's own function runs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature

from django_mongo_sessions.conf import conf
from django_mongo_sessions.exceptions import KeysUnavailable

ID_LENGTH = 4  # bytes
REFRESH_INTERVAL = 60.0  # seconds between two calls that look for an unknown key
RETRY_INTERVAL = 1.0  # seconds after a call has failed

_LENGTH = 32  # bytes
_OLDEST = 42  # the major version of `cryptography`
# Part of the stored format, like `codec._SALT`.
_SALT = b"django_mongo_sessions.encryption"
_SETTING = "MONGO_SESSIONS['ENCRYPTION_KEYS']"


class MasterKey:
    """One of the keys, from which the key of each payload is derived.

    Of the secret itself, only the state of an HMAC is kept.
    """

    __slots__ = ("_mac", "id")

    def __init__(self, secret: bytes) -> None:
        self._mac = hmac.new(hmac.digest(_SALT, secret, "sha512"), digestmod="sha512")
        self.id = self.derive(b"key id", ID_LENGTH)

    def derive(self, info: bytes, length: int) -> bytes:
        """Return up to 64 bytes for this info, by HKDF-SHA-512: __init__() has done the extract."""
        mac = self._mac.copy()
        mac.update(info + b"\x01")
        return mac.digest()[:length]

    def __repr__(self) -> str:
        return f"<MasterKey {self.id.hex()}>"


class Ring:
    """The keys of a site: the first one encrypts, and every one of them opens."""

    __slots__ = ("first", "keys")

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        self.keys, self.first = tuple(keys), keys[0]

    def named(self, key_id: bytes) -> list[MasterKey]:
        """Return the keys with this id: it has 32 bits, so two of them may have the same."""
        return [key for key in self.keys if key.id == key_id]

    def ids(self) -> list[str]:
        """Return the ids as documents have them, the first key's first."""
        return [key.id.hex() for key in self.keys]

    def __repr__(self) -> str:
        return f"<Ring {', '.join(self.ids())}>"


# The cipher


class _Cipher(NamedTuple):
    kind: Callable[[bytes], Any]
    invalid_tag: type[Exception]


@cache
def cipher() -> _Cipher:
    """Return AES-GCM as `cryptography` has it.

    Raises ImproperlyConfigured if the package is not installed, or is too old.
    """
    remedy = f'Run `python -m pip install "cryptography>={_OLDEST}"`.'
    try:
        from cryptography import __version__ as version
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ImproperlyConfigured(
            f"{_SETTING} needs the package cryptography, which cannot be imported. {remedy}"
        ) from error
    if int(version.partition(".")[0]) < _OLDEST:
        raise ImproperlyConfigured(
            f"{_SETTING} needs cryptography {_OLDEST} or later, and {version} is installed. "
            f"{remedy}"
        )
    return _Cipher(AESGCM, InvalidTag)


def encrypt(secret: bytes, nonce: bytes, text: bytes, context: bytes) -> bytes:
    """Return the ciphertext and its tag: AES-256-GCM, which authenticates the context too."""
    ciphertext: bytes = cipher().kind(secret).encrypt(nonce, text, context)
    return ciphertext


def decrypt(secret: bytes, nonce: bytes, ciphertext: memoryview, context: bytes) -> bytes:
    """See encrypt(). Raises BadSignature if the ciphertext or the context was changed."""
    try:
        text: bytes = cipher().kind(secret).decrypt(nonce, ciphertext, context)
    except cipher().invalid_tag:
        raise BadSignature("its tag does not match") from None
    return text


# What a site may set


def new_key() -> tuple[str, str]:
    """Return a new key as text, and its id."""
    secret = os.urandom(_LENGTH)
    return base64.urlsafe_b64encode(secret).decode(), MasterKey(secret).id.hex()


def read(given: object) -> Ring:
    """Return the ring of these keys.

    Raises ImproperlyConfigured if one of them is not a key, and KeysUnavailable if its file cannot
    be read. No message contains a key.
    """
    cipher()
    if not isinstance(given, (list, tuple)) or not given:
        kind = f"an empty {type(given).__name__}" if given in ([], ()) else type(given).__name__
        raise ImproperlyConfigured(f"{_SETTING} must be a list of keys, and is {kind}.")
    secrets: list[bytes] = []
    for place, each in enumerate(given):
        secret = _secret(each)
        if problem := _problem(secret, secrets):
            raise ImproperlyConfigured(f"{_SETTING}[{place}] {problem}.")
        secrets.append(secret)
    return Ring([MasterKey(secret) for secret in secrets])


def _problem(secret: bytes, before: list[bytes]) -> str | None:
    """Return what is wrong with a key, given those before it in the list; None if nothing is."""
    if len(secret) != _LENGTH:
        return (
            "is not a key. A key is 32 bytes, as bytes, in base64 or as 64 hexadecimal digits, or "
            "the Path of a file that contains one. `manage.py mongosessions newkey` makes one"
        )
    if len(set(secret)) == 1:
        return "consists of one byte, 32 times. `manage.py mongosessions newkey` makes a key"
    if secret in before:
        return "is there twice"
    signing = [key.encode() if isinstance(key, str) else key for key in conf.SIGNING_KEYS]
    if secret in signing or secret in map(_secret, conf.SIGNING_KEYS):
        return "is SECRET_KEY. Use a key of its own: `manage.py mongosessions newkey` makes one"
    return None


def _secret(given: object) -> bytes:
    """Return the bytes of a key. If it is no key, their number is not 32."""
    if isinstance(given, Path):
        try:
            given = given.read_bytes()
        except (OSError, ValueError) as error:
            is_key = len(_secret(str(given))) == _LENGTH
            problem = "its path is itself a key" if is_key else error
            raise KeysUnavailable(f"A file in {_SETTING} cannot be read: {problem}") from None
        # 32 characters of text are no key either, but a passphrase.
        if len(given) != _LENGTH or _TEXT.fullmatch(given):
            given = given.decode(errors="replace").strip()
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str) or not given.isascii():
        return b""
    try:
        if len(given) == 2 * _LENGTH:
            return bytes.fromhex(given)
        text = given.translate(_STANDARD) + "=" * (-len(given) % 4)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


_STANDARD = str.maketrans("-_", "+/")
_TEXT = re.compile(rb"[\t\n\r -~]*")


# Where a process gets them


class Source:
    """What `ENCRYPTION_KEYS` is set to, and the ring that it has led to in this process."""

    def __init__(self, given: object) -> None:
        self.given, self.process = given, os.getpid()
        self.ring: Ring | None = None
        self._next = 0.0  # time.monotonic() from which on it may be asked again
        self._doubt: Exception | None = None  # why it is unknown which keys there are now

    def get(self) -> Ring:
        """Return the ring. At first use, calls of the same moment may all ask for it.

        Raises KeysUnavailable if the site's function raises, or has done so within the last second,
        and ImproperlyConfigured if it returns no keys.
        """
        return self.ring or self._ask()

    def get_newer(self, ring: Ring) -> Ring:
        """Return the ring, asked for again if that was not done within the last minute.

        `ring` is the one in which a key is missing. While another call asks, or if asking has
        failed, KeysUnavailable is raised: the key may exist.
        """
        if self.ring is not None and self.ring is not ring:
            return self.ring
        if self._doubt is None and time.monotonic() < self._next:
            return ring
        return self._ask()

    def _ask(self) -> Ring:
        began, is_first = time.monotonic(), self.ring is None
        doubt = self._doubt  # another thread may take it back at any moment
        if doubt is not None and began < self._next:
            raise type(doubt)(*doubt.args)
        if self._doubt is not None or not is_first:  # one call at a time
            self._doubt = self._doubt or KeysUnavailable("The encryption keys are being asked for.")
            self._next = began + RETRY_INTERVAL
        try:
            ring = read(_asked())
        except (ImproperlyConfigured, KeysUnavailable) as error:
            # A copy, since the traceback of the error itself keeps what the request has used.
            self._doubt = type(error)(*error.args)
            self._next = time.monotonic() + RETRY_INTERVAL
            raise
        self.ring, self._doubt = ring, None
        self._next = 0.0 if is_first else began + REFRESH_INTERVAL
        return ring


def named() -> Any:
    """Return what `ENCRYPTION_KEYS` is, or the function that it names.

    Raises ImproperlyConfigured without the path, which may be a key that stands in the wrong place.
    """
    try:
        return conf.function("ENCRYPTION_KEYS")
    except ImproperlyConfigured:
        raise ImproperlyConfigured(
            f"{_SETTING} is neither a list of keys, nor an ordinary function that returns one, nor "
            "the dotted path of such a function."
        ) from None


def _asked() -> object:
    given = named()
    if not callable(given):
        return given
    try:
        return given()
    except Exception as error:
        raise KeysUnavailable(f"{_SETTING} raised {type(error).__name__}.") from error


_source: Source | None = None


def source() -> Source:
    """Return the source of the keys that the settings name; a new one after a fork."""
    global _source
    found, given = _source, conf.ENCRYPTION_KEYS
    if found is None or found.given is not given or found.process != os.getpid():
        _source = found = Source(given)
    return found
