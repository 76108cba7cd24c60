"""What a session store raises beside Django's own exceptions and PyMongo's."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import ServerSelectionTimeoutError


class SessionConflict(UpdateError):
    """Two requests have changed one session, and the later one cannot be stored.

    `keys` names what both have changed, with `ON_CONFLICT` set to "raise"; it is empty where the
    race was lost too often. As to any UpdateError, Django's middleware answers with status 400
    where its own save raises it; what a view's save raises is the view's, and else a status 500.
    """

    def __init__(self, message: str, keys: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class ServerUnavailable(ServerSelectionTimeoutError):
    """MongoDB was found to be away a moment ago, and was not asked."""
