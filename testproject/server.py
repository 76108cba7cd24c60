"""The mongod that `make demo` has started, which its page can stop and start again."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from testproject import mongod


class Server:
    """A mongod that always has the same address and the same data. Not running at first."""

    def __init__(self, data: Path) -> None:
        self._data, self._port = data, mongod.free_port()
        self._lock = threading.Lock()
        self._running = ExitStack()
        self.is_running = False

    def start(self) -> str:
        """Start it, unless it runs; return its URI. Raises MongodError if it does not start."""
        with self._lock:
            if not self.is_running:
                self._running.enter_context(mongod.running(self._data, port=self._port))
                self.is_running = True
        return f"mongodb://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """Stop it, if it runs."""
        with self._lock:
            self._running.close()
            self.is_running = False


# None if there is nothing to stop: the site uses a server of its user's, or mongomock.
own: Server | None = None
