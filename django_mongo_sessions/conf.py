"""The one door to settings. Everything is read live, so `override_settings` works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.conf import settings

Value = TypeVar("Value")


class Conf:
    """`settings.MONGO_SESSIONS`, one property per key with its default, and the keys that sign."""

    def _given(self, key: str, default: Value) -> Value:
        value: Value = getattr(settings, "MONGO_SESSIONS", {}).get(key, default)
        return value

    @property
    def URI(self) -> str:
        """What PyMongo takes, or `mongomock://` with an optional `/database`."""
        return self._given("URI", "mongodb://localhost:27017")

    @property
    def DATABASE(self) -> str | None:
        """The database's name; None leaves it to the URI."""
        return self._given("DATABASE", None)

    @property
    def COLLECTION(self) -> str:
        """The collection's name."""
        return self._given("COLLECTION", "sessions")

    @property
    def CLIENT_OPTIONS(self) -> Mapping[str, Any]:
        """Keyword arguments for the clients that we make."""
        return self._given("CLIENT_OPTIONS", {})

    @property
    def TIMEOUT(self) -> float:
        """Seconds for one operation as a whole, where the client has no `timeoutMS` of its own."""
        return self._given("TIMEOUT", 5.0)

    @property
    def SIGNING_KEYS(self) -> list[str | bytes]:
        """The key that signs, then those that may only open."""
        return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


conf = Conf()
