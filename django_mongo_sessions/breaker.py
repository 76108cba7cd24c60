"""Whether MongoDB is asked at all: while it is away, calls fail at once. No session code.

A circuit breaker. The first calls wait for a server as long as their deadline allows. Then none
waits, until the client's monitor has found one again; where the monitor looks more rarely than once
a second, or where the server is known and does not answer, one call each second tries.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from pymongo.errors import (
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from django_mongo_sessions.drivers import Gate
from django_mongo_sessions.exceptions import ServerUnavailable

PROBE_INTERVAL = 1.0  # seconds


class Breaker(Gate):
    """The breaker of one client. For threads, and for the tasks of a loop."""

    def __init__(self, client: Any, timeout: float) -> None:
        """`timeout` is what a call may take, in seconds. One that gives up much earlier has been
        given less by who called, which says nothing to others.
        """
        self._client, self._patience = client, timeout / 2
        self._lock = threading.Lock()
        self._answered = 0.0  # when the latest call began that was answered
        self._failure: str | None = None  # what calls meet, while MongoDB is away
        self._hangs = False  # whether it is away though the client knows a server
        self._next_probe = 0.0

    def enter(self, began: float) -> None:
        """Let a call through, or raise ServerUnavailable."""
        if self._failure is not None and not self._is_worth_a_try(began):
            raise ServerUnavailable(
                f"MongoDB is away: a call ended in {self._failure}, and it is not back yet. It is "
                f"looked for each {PROBE_INTERVAL:.0f} s."
            )

    def leave(self, began: float, error: PyMongoError | None = None) -> None:
        """Learn from how a call ended."""
        if error is None or isinstance(error, OperationFailure):
            if began > self._answered:
                self._answered = began
            self._failure = None
        elif self._is_news(began, error):
            self._hangs = isinstance(error, NetworkTimeout)
            self._next_probe = time.monotonic() + PROBE_INTERVAL
            self._failure = type(error).__name__

    def _is_news(self, began: float, error: PyMongoError) -> bool:
        """Return whether a call has waited in vain, and none that began later was answered."""
        in_vain = isinstance(error, (ServerSelectionTimeoutError, NetworkTimeout))
        if not in_vain or isinstance(error, ServerUnavailable) or began <= self._answered:
            return False
        return time.monotonic() - began >= self._patience

    def _is_server_known(self) -> bool:
        topology = self._client.topology_description
        is_direct = topology.topology_type_name == "Single"  # then any server will do
        return any(
            server.is_writable or (is_direct and server.is_server_type_known)
            for server in topology.server_descriptions().values()
        )

    def _is_worth_a_try(self, now: float) -> bool:
        if not self._is_server_known():
            self._hangs = False  # the monitor knows: once it finds a server, that answers
            if self._client.options.heartbeat_frequency <= PROBE_INTERVAL:
                return False
        elif not self._hangs:
            return True
        with self._lock:
            is_due = now >= self._next_probe
            if is_due:
                self._next_probe = now + PROBE_INTERVAL
            return is_due
