"""What CLIENT and ASYNC_CLIENT name, what that returns, and mongomock. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string


def named(setting: str, given: Any) -> Callable[[], Any] | None:
    """Return what a setting is set to, or what its path names; raise ImproperlyConfigured where
    that cannot be called for a client.
    """
    if isinstance(given, str):
        try:
            given = import_string(given)
        except ImportError as error:
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS[{setting!r}] cannot be imported: {error}"
            ) from error
    elif given is None:
        return None
    # PyMongo's collections define __call__, to say that they have none.
    if not callable(given) or _package(given) in ("pymongo", "mongomock"):
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS[{setting!r}] names a {type(given).__name__}. It must name a callable "
            "that returns a client: a function, for instance, that returns the one it names now."
        )
    return given  # type: ignore[no-any-return]


def called(setting: str, make: Callable[[], Any], kind: type) -> Any:
    """Return the client that a setting's callable returns; raise ImproperlyConfigured where that
    is none of this kind, nor of mongomock.
    """
    client = make()
    if not isinstance(client, kind) and not is_mock(client):
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS[{setting!r}] returned a {type(client).__name__}. "
            f"It must return a {kind.__name__}."
        )
    return client


def mock() -> Any:
    """Make a client of mongomock; raise ImproperlyConfigured where it is not installed."""
    try:
        import mongomock
    except ImportError as error:
        raise ImproperlyConfigured(
            "MONGO_SESSIONS['URI'] is mongomock://, and mongomock is not installed. "
            "Install it with: python -m pip install mongomock"
        ) from error
    return mongomock.MongoClient()


def is_mock(client: Any) -> bool:
    """Return whether a client, also a shared one, is mongomock's."""
    return _package(client) == "mongomock"


def _package(thing: Any) -> str:
    return type(thing).__module__.partition(".")[0]
