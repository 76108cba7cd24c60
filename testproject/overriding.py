"""MONGO_SESSIONS with other values for a block of code, and for nobody else.

    with overriding(ON_CONFLICT="raise"):
        session.save()

The engine reads the settings anew whenever it needs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_overrides: ContextVar[Mapping[str, Any]] = ContextVar("overrides", default=MappingProxyType({}))


class Overridable(Mapping[str, Any]):
    """Settings that overriding() overrides."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def _now(self) -> Mapping[str, Any]:
        return {**self._given, **_overrides.get()}

    def __getitem__(self, name: str) -> Any:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


@contextmanager
def overriding(**values: Any) -> Iterator[None]:
    """Override keys of MONGO_SESSIONS within the block: other requests see nothing of it."""
    token = _overrides.set(values)
    try:
        yield
    finally:
        _overrides.reset(token)
