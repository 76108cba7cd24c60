"""Servers that sites run, as processes of their own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

WAIT = 60  # seconds


class Server:
    """A server that was started: its process, its port, and what it has written."""

    def __init__(
        self, command: Sequence[str], port: int, environment: Mapping[str, str], log: Path
    ) -> None:
        self.port, self.log = port, log
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=output, stderr=output
            )

    def wait_until_it_answers(self) -> Server:
        deadline = time.monotonic() + WAIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=WAIT).close()
                return self
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, "the server does not respond"
                time.sleep(0.05)

    def stop(self) -> float:
        """Stop it as an operator does, and return the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT)
        return time.monotonic() - began
