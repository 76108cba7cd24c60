"""TCP proxies before a mongod, which break connections."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

# What a message about sessions contains, in BSON. A client's monitor never sends it.
_COLLECTION = b"\x09\x00\x00\x00sessions\x00"


class Proxy:
    """Passes everything on. On request, it cuts a connection after a number of bytes."""

    TO_SERVER, TO_CLIENT = "to the server", "to the client"

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._cut: tuple[str, int] | None = None
        self.passed = {self.TO_SERVER: 0, self.TO_CLIENT: 0}
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, direction: str | None, after: int = 0) -> None:
        """Cut a connection about sessions, once, after so many more bytes."""
        with self._lock:
            self._cut = None if direction is None else (direction, after)
            self.passed = dict.fromkeys(self.passed, 0)

    @property
    def has_cut(self) -> bool:
        """Whether the requested cut was made."""
        return self._cut is None

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                return
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connected(client, server)

    def _connected(self, client: socket.socket, server: socket.socket) -> None:
        _Connection(self, client, server)

    def allowed(self, direction: str, size: int) -> tuple[int, bool]:
        """Return how many of the bytes may pass, and whether the connection is cut then."""
        with self._lock:
            if self._cut is not None and self._cut[0] == direction:
                left = self._cut[1] - self.passed[direction]
                if size >= left:
                    self._cut = None
                    return left, True
            self.passed[direction] += size
            return size, False


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._ends = proxy, (client, server)
        self._is_of_sessions = False
        for source, sink, direction in (
            (client, server, Proxy.TO_SERVER),
            (server, client, Proxy.TO_CLIENT),
        ):
            args = (source, sink, direction)
            threading.Thread(target=self._pass_on, args=args, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._is_of_sessions = self._is_of_sessions or _COLLECTION in data
                allowed, is_cut = len(data), False
                if self._is_of_sessions:
                    allowed, is_cut = self._proxy.allowed(direction, len(data))
                sink.sendall(data[:allowed])
                if is_cut:
                    break
        _close(*self._ends)


class UnreliableProxy(Proxy):
    """Loses and delays commands at random."""

    # What may happen to a command. The connection is cut in all cases but the last.
    LOST, UNHEARD, LATE, DELAYED = "lost", "done and unheard", "late", "delayed"

    def __init__(
        self, port: int, chances: Mapping[str, float], longest_delay: float, others: float = 0
    ) -> None:
        """`chances` are those of a command about sessions, and `others` that a heartbeat or a
        handshake is lost, all from 0 to 1. `longest_delay` is in seconds.
        """
        self._chances, self._longest_delay, self._others = chances, longest_delay, others
        self.happened: Counter[str] = Counter()
        super().__init__(port)

    def calm_down(self) -> None:
        """Pass everything on from now on."""
        self._chances, self._others = {}, 0

    def _connected(self, client: socket.socket, server: socket.socket) -> None:
        for work in (self._send_commands, self._send_replies):
            threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _send_commands(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            for message in _messages(client):
                fate = self._decide(message)
                delay = random.uniform(0, self._longest_delay)
                if fate == self.DELAYED:
                    time.sleep(delay / 10)
                if fate == self.LATE:  # the client has given up by then
                    _close(client)
                    time.sleep(delay)
                if fate != self.LOST:
                    server.sendall(message)
                if fate == self.LATE:
                    time.sleep(0.1)  # or the server would not read it
                elif fate == self.UNHEARD:
                    _shut(client)  # before the server can reply
                    time.sleep(0.1)
                if fate not in (None, self.DELAYED):
                    break
        _close(client, server)

    def _send_replies(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _shut(client)

    def _decide(self, message: bytes) -> str | None:
        fate, draw = None, random.random()
        if _COLLECTION in message:
            for name, chance in self._chances.items():
                if draw < chance:
                    fate = name
                    break
                draw -= chance
            self.happened[fate or "passed"] += 1
        elif draw < self._others:
            fate = self.LOST
            self.happened["heartbeat or handshake lost"] += 1
        return fate


def _messages(source: socket.socket) -> Iterator[bytes]:
    """Yield the messages that arrive; each begins with its length."""
    buffer = b""
    while data := source.recv(65536):
        buffer += data
        while len(buffer) >= 4 and len(buffer) >= (size := struct.unpack("<i", buffer[:4])[0]):
            yield buffer[:size]
            buffer = buffer[size:]


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _close(*ends: socket.socket) -> None:
    _shut(*ends)
    for end in ends:
        end.close()
