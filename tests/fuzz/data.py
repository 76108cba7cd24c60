"""From the bytes of an input to choices and values. After their end, everything is zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Option = TypeVar("Option")


class Data:
    """The bytes of an input, which are taken from the front."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def __bool__(self) -> bool:
        return self._at < len(self._raw)

    def take(self, size: int) -> bytes:
        """Return that many bytes, or what is left."""
        taken = self._raw[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(len(self._raw))

    def byte(self) -> int:
        """Return a number below 256."""
        return int.from_bytes(self.take(1), "big")

    def flag(self) -> bool:
        """Return one of two."""
        return self.byte() % 2 == 1

    def choice(self, options: Sequence[Option]) -> Option:
        """Return one of the options."""
        return options[self.byte() % len(options)]

    def integer(self) -> int:
        """Return a number that MongoDB can hold: small, or at an edge, or any."""
        kind = self.byte() % 4
        if kind == 0:
            return self.byte()
        if kind == 1:
            return -self.byte()
        if kind == 2:
            return self.choice([2**31, 2**53, 2**63 - 1, -(2**31), -(2**63)])
        return int.from_bytes(self.take(8), "big", signed=True)

    def binary(self) -> bytes:
        """Return up to 255 bytes."""
        return self.take(self.byte())

    def text(self) -> str:
        """Return up to 255 characters, lone surrogates among them."""
        return self.binary().decode("utf-8", "surrogateescape")
