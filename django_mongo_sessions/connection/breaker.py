"""Circuit breakers: while MongoDB is down, calls fail at once instead of waiting.

The first calls wait for a server as long as their deadline allows. After that no call waits until
the client's monitor has found a server again. If the monitor looks less often than once a second,
or if the server is known and does not reply, one call a second is let through to try. The same
applies if the DNS is down, since there is no monitor until it has named the servers.
"""

from __future__ import annotations

import time
from typing import Any

from pymongo.errors import (
    ConfigurationError,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from django_mongo_sessions.connection import errors, testruns
from django_mongo_sessions.exceptions import (
    DNSUnavailable,
    PredecessorUnavailable,
    ServerUnavailable,
)

PROBE_INTERVAL = 1.0  # seconds


class Gate:
    """What every call passes. This one lets all calls through."""

    outage: str | None = None  # the error that shows MongoDB to be down: its name, and more

    def enter(self, began: float) -> None:
        """Let a call through that begins at this time.monotonic(), or raise a PyMongoError."""

    def leave(self, began: float, error: Exception | None = None) -> None:
        """Learn how a call ended."""

    def explain(self, error: Exception) -> None:
        """Let an error that a call has met say what to do about it."""


OPEN = Gate()


class RequestBreaker(Gate):
    """For one request: once a call has met an outage, the request makes no further calls."""

    def enter(self, began: float) -> None:
        """Let a call through, or raise ServerUnavailable."""
        if self.outage is not None:
            raise not_tried_again(self.outage)

    def leave(self, began: float, error: Exception | None = None) -> None:
        """Remember the first outage."""
        if self.outage is None and error is not None and errors.is_outage(error):
            self.outage = f"{type(error).__name__}: {errors.without_topology(error)}"


def not_tried_again(outage: str) -> ServerUnavailable:
    """Return the error of a request's second call, given how the first one ended."""
    return ServerUnavailable(
        f"The session is not tried again: an earlier call of this request ended in {outage}"
    )


class Breaker(Gate):
    """For one client, and so for all its threads or tasks."""

    def __init__(self, client: Any, timeout: float) -> None:
        """`timeout` is how long a call may take, in seconds.

        A call that fails much sooner had a shorter deadline set by its caller, which says nothing
        about the server.
        """
        self._client, self._threshold = client, timeout / 2
        self._answered = 0.0  # when the latest call began that got a reply
        self._hangs = False  # whether the client knows a server, which does not reply
        self._watches = False  # whether the client is known to look for servers by itself
        self._next_probe = 0.0

    def got_no_reply(self) -> bool:
        """Return whether MongoDB is down, and no call has ever got a reply."""
        return self.outage is not None and not self._answered

    def enter(self, began: float) -> None:
        """Let a call through, or raise ServerUnavailable."""
        if self.outage is not None and not self._should_try(began):
            raise _unavailable(
                f"MongoDB is down at {_hosts(self._client)}: a call ended in {self.outage}, and "
                "no server has been found since"
            )

    def leave(self, began: float, error: Exception | None = None) -> None:
        """Learn from how a call ended."""
        if error is None or isinstance(error, OperationFailure):
            if began > self._answered:
                self._answered = began
            self._watches, self.outage = True, None
        elif isinstance(error, ConfigurationError):  # the DNS does not know the host, for example
            self.outage = None
        elif self._shows_outage(began, error):
            self._hangs = isinstance(error, NetworkTimeout)
            if not self._hangs:  # else the call may have waited for another one, and for the DNS
                self._watches = not isinstance(error, DNSUnavailable)
            self._next_probe = time.monotonic() + PROBE_INTERVAL
            self.outage = f"{type(error).__name__} ({_reason(error, _hosts(self._client))})"

    def explain(self, error: Exception) -> None:
        """Let the error of a server that was not found say where and why, and what to try.

        PyMongo's own text describes the whole topology. Any other error stays as it is.
        """
        is_long = errors.without_topology(error) != str(error)
        if isinstance(error, ServerSelectionTimeoutError) and is_long:
            hosts = _hosts(self._client)
            error.args = (f"MongoDB is down at {hosts}: {_reason(error, hosts)}",)
            errors.advise(error, _advice())

    def _shows_outage(self, began: float, error: Exception) -> bool:
        """Return whether a call has waited in vain, and no later one got a reply."""
        if began <= self._answered:
            return False
        if isinstance(error, ServerUnavailable):  # it was not sent
            return isinstance(error, DNSUnavailable)  # which no caller's deadline ends
        in_vain = isinstance(error, (ServerSelectionTimeoutError, NetworkTimeout))
        return in_vain and time.monotonic() - began >= self._threshold

    def _is_server_known(self) -> bool:
        topology = self._client.topology_description
        is_direct = topology.topology_type_name == "Single"  # then any server will do
        return any(
            server.is_writable or (is_direct and server.is_server_type_known)
            for server in topology.server_descriptions().values()
        )

    def _should_try(self, now: float) -> bool:
        if getattr(self._client, "_closed", False):  # its monitor will find no server any more
            return True
        if not self._is_server_known():
            self._hangs = False  # the monitor decides: a server that it finds does reply
            if self._watches and self._client.options.heartbeat_frequency <= PROBE_INTERVAL:
                return False
        elif not self._hangs:
            return True
        # Without a lock, two calls of one moment may both be let through. That does no harm, and a
        # signal handler or a finalizer that uses a session never waits for the code it interrupts.
        is_due = now >= self._next_probe
        if is_due:
            self._next_probe = now + PROBE_INTERVAL
        return is_due


def _hosts(client: Any) -> str:
    """Return the addresses that a client knows, and what it has found there."""
    servers = client.topology_description.server_descriptions()
    return ", ".join(_host(address, servers[address]) for address in sorted(servers))


def _host(address: tuple[str, int | None], server: Any) -> str:
    host, port = address
    if port is not None:  # else it is a socket's path
        host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{host} ({server.server_type_name})" if server.is_server_type_known else host


def _reason(error: Exception, hosts: str) -> str:
    """Return what an error says, without the host if there is one alone."""
    as_pymongo_writes_it = hosts.replace("[", "").replace("]", "")  # IPv6 too
    return errors.reason(error).removeprefix(f"{as_pymongo_writes_it}: ")


def _unavailable(reason: str) -> ServerUnavailable:
    """Return the error of a call that is not sent, because of an earlier one."""
    error = ServerUnavailable(f"{reason}. The next attempt follows within {PROBE_INTERVAL:.0f} s")
    return errors.advise(error, _advice())


def _advice() -> str:
    return errors.ADVICE if testruns.environment() is None else errors.ADVICE_IN_TESTS


class FactoryBreaker(Gate):
    """For one client that is being made: if that fails, calls within a second raise such an error.

    After that second, one call a second is let through to try.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._next_probe = 0.0

    def enter(self, began: float) -> None:
        """Let a call through; or raise ServerUnavailable for an outage, or an error like it."""
        error = self._error
        if error is None:
            return
        if began >= self._next_probe:
            self._next_probe = began + PROBE_INTERVAL
            return
        if errors.is_outage(error):
            raise _unavailable(
                f"MongoDB is down: making a client ended in {type(error).__name__} "
                f"({errors.reason(error)})"
            )
        raise _copy(error)

    def leave(self, began: float, error: Exception | None = None) -> None:
        """Remember how it ended, without the traceback and the variables in it."""
        self._next_probe = time.monotonic() + PROBE_INTERVAL
        self._error = None if error is None else _copy(error)


class PredecessorBreaker(Gate):
    """For the engine that the site had before: while it is down, one call a second tries it."""

    def __init__(self) -> None:
        self._next_probe = 0.0

    def enter(self, began: float) -> None:
        """Let a call through, or raise PredecessorUnavailable."""
        if self.outage is None:
            return
        if began < self._next_probe:
            raise self.error()
        self._next_probe = began + PROBE_INTERVAL

    def leave(self, began: float, error: Exception | None = None) -> None:
        """Remember how a call ended: an error of any kind is an outage."""
        self._next_probe = time.monotonic() + PROBE_INTERVAL
        self.outage = None if error is None else type(error).__qualname__

    def error(self) -> PredecessorUnavailable:
        """Return the error to raise."""
        return PredecessorUnavailable(
            f"The engine in MONGO_SESSIONS['PREDECESSOR'] has raised {self.outage}, so nothing is "
            f"known of the session. The next attempt follows within {PROBE_INTERVAL:.0f} s."
        )


def _copy(error: Exception) -> Exception:
    """Return a new exception like this one: one that is raised twice would keep both tracebacks."""
    # Without its __init__(), which may accept other arguments than it passes on.
    copy = type(error).__new__(type(error), *error.__reduce__()[1])
    copy.__dict__.update(error.__dict__)
    return copy
