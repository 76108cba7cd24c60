"""A TCP proxy before a mongod, which cuts a connection after so many bytes."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

# Whoever speaks of this collection speaks for a session; a monitor never does. As BSON has it.
_COLLECTION = b"\x09\x00\x00\x00sessions\x00"


class Proxy:
    """Passes everything on, until it is told to cut."""

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
        """Cut the connection that speaks of sessions, once, when so many more bytes have passed."""
        with self._lock:
            self._cut = None if direction is None else (direction, after)
            self.passed = dict.fromkeys(self.passed, 0)

    @property
    def has_cut(self) -> bool:
        """Whether it has done what it was told."""
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
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
