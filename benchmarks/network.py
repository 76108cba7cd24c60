"""Count the round trips of each contender on the wire, and find out what they cost on a network.

A proxy stands between a contender and its servers, and counts *turnarounds*: how often the
contender has sent something and then had to wait for the reply, however many commands it sent at
once. What an operation takes on a network is its time on loopback plus its turnarounds times the
round trip's. `check` tests that with a proxy that delays what it passes on.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from benchmarks import payloads
from benchmarks.cases import NETWORK
from benchmarks.contenders import OURS, POSTGRESQL, Contender
from benchmarks.servers import Addresses
from benchmarks.worker import running

SIZE = payloads.SIZES[0]
ROUND_TRIPS = [0.25, 0.5, 1.0]  # milliseconds
CHECKED = [OURS, POSTGRESQL]
_OPERATIONS = 20
_CHECKS = 3  # rounds of so many operations
# What PyMongo sends to find out whether a server is well. No operation waits for it.
_HEARTBEAT = re.compile(rb"hello|ismaster", re.IGNORECASE)
# At the end of a delay, the clock is watched, because a sleep lasts longer than it should.
_WATCHED = 0.0002  # seconds


class Proxy:
    """Passes everything on to a port of 127.0.0.1, and counts turnarounds.

    What a client sends is held back for `round_trip` seconds.
    """

    def __init__(self, server: int) -> None:
        self.turnarounds = 0
        self.round_trip = 0.0
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections. The others end when one of their ends does."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:  # closed
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(self, client, server)


class _Connection:
    """One connection through a proxy, with three threads."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.is_waiting = False  # the client, for a reply
        self.held: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        for work in (self._receive, self._send, self._reply):
            threading.Thread(target=self._until_closed, args=(work,), daemon=True).start()

    def _until_closed(self, work: Any) -> None:
        with suppress(OSError):
            work()
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _receive(self) -> None:
        while data := self.client.recv(65_536):
            self.held.put((time.perf_counter() + self.proxy.round_trip, data))
        self.held.put((0, b""))

    def _send(self) -> None:
        while True:
            due, data = self.held.get()
            if not data:
                return
            _wait_until(due)
            self.is_waiting = self.is_waiting or not _HEARTBEAT.search(data)
            self.server.sendall(data)

    def _reply(self) -> None:
        while data := self.server.recv(65_536):
            if self.is_waiting:
                self.is_waiting = False
                self.proxy.turnarounds += 1
            self.client.sendall(data)


def _wait_until(due: float) -> None:
    left = due - time.perf_counter() - _WATCHED
    if left > 0:
        time.sleep(left)
    while time.perf_counter() < due:
        pass


def modelled(median: float, turnarounds: float, round_trip: float) -> float:
    """Return the microseconds of an operation on a network.

    `median` is its time on loopback in microseconds, and `round_trip` is in milliseconds.
    """
    return median + turnarounds * round_trip * 1_000


@contextmanager
def proxied(addresses: Addresses) -> Iterator[tuple[Addresses, list[Proxy]]]:
    """Put a proxy before each server during the block; yield their addresses, and the proxies."""
    with ExitStack() as stack:
        proxies = []
        for port in (_port(addresses.mongodb), addresses.postgresql, _port(addresses.redis)):
            proxies.append(Proxy(port))
            stack.callback(proxies[-1].close)
        mongodb, postgresql, redis = (proxy.port for proxy in proxies)
        yield (
            addresses._replace(
                mongodb=f"mongodb://127.0.0.1:{mongodb}",
                postgresql=postgresql,
                redis=f"redis://127.0.0.1:{redis}",
            ),
            proxies,
        )


def _port(uri: str) -> int:
    port = urlsplit(uri).port
    assert port is not None
    return port


def measure(contenders: list[Contender], addresses: Addresses) -> dict[str, Any]:
    """Return the turnarounds of one operation by case and contender, and the checks."""
    with proxied(addresses) as (through, proxies):
        turnarounds: dict[str, dict[str, float]] = {case: {} for case in NETWORK}
        checks = []
        for contender in contenders:
            cases = [case for case in NETWORK if case in contender.cases]
            if not cases:
                continue
            with running([contender], through) as [worker]:
                for case in cases:
                    worker("prepare", case=case, size=SIZE)
                    _run(worker, proxies)  # opens connections
                    counted, _ = _run(worker, proxies)
                    turnarounds[case][contender.name] = counted / _OPERATIONS
                    if contender.name in CHECKED:
                        checks += _check(worker, proxies, case, counted / _OPERATIONS)
    return {"turnarounds": turnarounds, "checks": checks}


def _check(
    worker: Any, proxies: list[Proxy], case: str, turnarounds: float
) -> Iterator[dict[str, Any]]:
    """Yield, for each round trip's time, the milliseconds that it adds to an operation."""
    times: dict[float, list[float]] = {}
    for _ in range(_CHECKS):
        for delay in (0.0, *ROUND_TRIPS):
            for proxy in proxies:
                proxy.round_trip = delay / 1_000
            times.setdefault(delay, []).append(_run(worker, proxies)[1])
    for proxy in proxies:
        proxy.round_trip = 0
    for delay in ROUND_TRIPS:
        yield {
            "contender": worker.contender.name,
            "case": case,
            "round_trip": delay,
            "expected": turnarounds * delay,
            "measured": median(times[delay]) - median(times[0.0]),
        }


def _run(worker: Any, proxies: list[Proxy]) -> tuple[int, float]:
    """Return the turnarounds of a round of operations, and the median in milliseconds."""
    worker("ready", number=_OPERATIONS)
    before = sum(proxy.turnarounds for proxy in proxies)
    result = worker("run_ready")
    counted = sum(proxy.turnarounds for proxy in proxies) - before
    return counted, median(result["durations"]) / 1e6
