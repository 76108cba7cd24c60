"""The parent's side of the workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.servers import Addresses

_END_TIMEOUT = 60  # seconds


class WorkerError(Exception):
    """A worker ended; the message shows the last that it said."""


class Worker:
    """The process of one contender."""

    def __init__(self, contender: Contender, addresses: Addresses) -> None:
        self.contender = contender
        self.log = Path(addresses.folder) / f"{contender.name}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", contender.name],
                cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        self._say(addresses)

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Give a command to the worker's `Runner`, wait, and return its answer."""
        return self._say([command, arguments])

    def _say(self, message: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait(_END_TIMEOUT)
            raise WorkerError(self._ended())
        return json.loads(line)

    def _ended(self) -> str:
        said = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
        return f"The worker of {self.contender.name!r} ended at {self.process.returncode}:\n{said}"

    def close(self) -> None:
        """End the process. Raises WorkerError where it does not end well."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.wait(_END_TIMEOUT):
            raise WorkerError(self._ended())

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(contenders: list[Contender], addresses: Addresses) -> Iterator[list[Worker]]:
    """Run the workers of contenders; they end with the block."""
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            workers.append(Worker(contender, addresses))
            stack.callback(workers[-1].kill)  # which does nothing to one that has ended
        yield workers
        for worker in workers:
            worker.close()
