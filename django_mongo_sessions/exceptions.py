"""What a session store raises besides Django's own exceptions and PyMongo's."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import ServerSelectionTimeoutError


class SessionConflict(UpdateError):
    """Two requests have changed one session, and the later change cannot be stored.

    With `ON_CONFLICT` set to "raise", `keys` names the session keys that both have changed. It is
    empty if the race was lost too often. As for any UpdateError, Django's middleware responds with
    status 400 if its own save raises it. If a view's save raises it and the view does not catch
    it, the status is 500.
    """

    def __init__(self, message: str, keys: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class ServerUnavailable(ServerSelectionTimeoutError):
    """MongoDB was found to be down a moment ago, so this call was not sent.

    It is raised at once, and not after a timeout. With this package's middleware, the response has
    status 503.
    """


class DNSUnavailable(ServerUnavailable):
    """The DNS cannot be asked for the servers of a `mongodb+srv://` URI, so the call was not sent.

    PyMongo raises a ConfigurationError for that. If the DNS replies that it does not know the host,
    the URI is wrong, and PyMongo's error stays.
    """


class KeysUnavailable(ServerUnavailable):
    """The keys that encrypt sessions cannot be obtained now, so no session can be opened.

    It is raised if the callable that ENCRYPTION_KEYS names has raised an error.
    """


class PredecessorUnavailable(ServerUnavailable):
    """The engine that PREDECESSOR names has raised an error, so nothing is known of the session.

    The session may exist: so the cookie stays, and the response has status 503.
    """
