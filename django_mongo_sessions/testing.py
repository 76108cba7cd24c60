"""For the tests of projects that use the engine."""

from __future__ import annotations

from django_mongo_sessions.connection import clients

__all__ = ["reset"]


def reset() -> None:
    """Close this process's MongoDB client; the next use of a session makes a new one.

    With mongomock all sessions go with the client, so a test can begin without any. On a real
    server the sessions stay. A client that the project shares by `CLIENT` stays open.
    """
    clients.reset()
