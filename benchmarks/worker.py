"""A contender's process: `Worker` is its parent's side, and `Runner` runs in it.

`python -m benchmarks.worker NAME` reads one command per line from its standard input, and writes
the result of each on one line of its standard output. Both are JSON. It exits when the input ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

from django.utils.module_loading import import_string

from benchmarks.cases import TASKS, THREADS, AsyncOperation, Operation, concurrency
from benchmarks.contenders import BY_NAME, Contender
from benchmarks.servers import Addresses
from benchmarks.site import set_up

_EXIT_TIMEOUT = 60  # seconds
# The engine uses threads for an event loop younger than a second. Those of servers are older.
_LOOP_AGE = 1.1  # seconds


class WorkerError(Exception):
    """A worker exited. The message has the end of its log."""


class Worker:
    """Start the process of a contender, and send commands to it."""

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
        self._send(addresses)

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Call a method of the worker's `Runner`, and return its result."""
        return self._send([command, arguments])

    def _send(self, message: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait(_EXIT_TIMEOUT)
            raise WorkerError(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        log = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
        status = self.process.returncode
        return f"The worker of {self.contender.name!r} exited with status {status}:\n{log}"

    def close(self) -> None:
        """Let the process exit. Raise WorkerError if its status is not 0."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.wait(_EXIT_TIMEOUT):
            raise WorkerError(self._last_words())

    def kill(self) -> None:
        """Kill the process, if it is still running."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(contenders: list[Contender], addresses: Addresses) -> Iterator[list[Worker]]:
    """Run a worker for each contender during the block."""
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            workers.append(Worker(contender, addresses))
            stack.callback(workers[-1].kill)
        yield workers
        for worker in workers:
            worker.close()


class Runner:
    """Prepare a case, and run and time its operations."""

    def __init__(self, name: str, addresses: Addresses) -> None:
        contender = BY_NAME[name]
        set_up(contender, addresses)
        self.cases = import_string(contender.cases_class)()
        self.loop = asyncio.new_event_loop()
        self.loop_is_old = False
        self.executor = ThreadPoolExecutor(max(map(concurrency, THREADS)))
        self.case = ""
        self.next: Sequence[Any] = ()

    def prepare(self, case: str, size: int) -> None:
        """Store the sessions that the case needs. `size` is in bytes of JSON."""
        self.case, self.operations = case, self.cases.prepare(case, size)
        if self._in_a_loop and not self.loop_is_old:
            self.loop.run_until_complete(self._age())
            self.loop_is_old = True

    async def _age(self) -> None:
        for operation in self.operations(1):
            await operation()
        await asyncio.sleep(_LOOP_AGE)

    @property
    def _in_a_loop(self) -> bool:
        return self.case in TASKS or self.case == "ASGI request"

    def ready(self, number: int) -> None:
        """Prepare that many operations of the case, which may send commands of its own."""
        self.next = self.operations(number)

    def run(self, number: int) -> dict[str, Any]:
        """Prepare that many operations of the case, and run them: see `run_ready()`."""
        self.ready(number)
        return self.run_ready()

    def run_ready(self) -> dict[str, Any]:
        """Run the operations that are ready, and return times in nanoseconds.

        They are the `durations` of the operations, the `wall` time of the whole, and `cpu`, this
        process's processor time for the whole.
        """
        operations, self.next = self.next, ()
        number = len(operations)
        gc.collect()
        cpu, wall = process_time_ns(), perf_counter_ns()
        durations = self._run(operations)
        wall, cpu = perf_counter_ns() - wall, process_time_ns() - cpu
        if len(durations) != number:
            raise RuntimeError(f"{len(durations)} of {number} operations were run")
        return {"durations": durations, "wall": wall, "cpu": cpu}

    def _run(self, operations: Any) -> list[int]:
        if self._in_a_loop:
            return self.loop.run_until_complete(_in_tasks(operations, concurrency(self.case)))
        if self.case in THREADS:
            return _in_threads(self.executor, operations, concurrency(self.case))
        return _one_by_one(operations)

    def memory(self) -> int:
        """Return the resident memory of this process in bytes."""
        import psutil  # the quick counts do without it

        return int(psutil.Process().memory_info().rss)

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method that only the cases of this contender have."""
        return getattr(self.cases, method)(**arguments)

    def close(self) -> None:
        """Stop the threads, and close the loop. The engine closes the client of the loop."""
        self.executor.shutdown()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.cases.close()


def _one_by_one(operations: Iterable[Operation]) -> list[int]:
    """Run operations in this thread, one after another."""
    durations = []
    for operation in operations:
        begun = perf_counter_ns()
        operation()
        durations.append(perf_counter_ns() - begun)
    return durations


def _in_threads(executor: ThreadPoolExecutor, operations: list[Operation], count: int) -> list[int]:
    """Run operations in that many threads, which start together.

    The threads, and so their connections, live as long as the executor.
    """
    waiting, start = iter(operations), threading.Barrier(count)

    def work() -> list[int]:
        start.wait()
        return _one_by_one(waiting)  # the threads share it: a list's iterator is thread-safe

    return _flat(future.result() for future in [executor.submit(work) for _ in range(count)])


async def _in_tasks(operations: list[AsyncOperation], count: int) -> list[int]:
    """Run operations in that many tasks of the running event loop."""
    waiting = iter(operations)
    return _flat(await asyncio.gather(*(_work(waiting) for _ in range(count))))


async def _work(operations: Iterator[AsyncOperation]) -> list[int]:
    durations = []
    for operation in operations:
        begun = perf_counter_ns()
        await operation()
        durations.append(perf_counter_ns() - begun)
    return durations


def _flat(parts: Iterable[list[int]]) -> list[int]:
    return [duration for part in parts for duration in part]


def main(name: str) -> None:
    """Run commands until the input ends. An exception ends the process, with its traceback."""
    # The original standard output is for results. Anything else that is printed goes to the log.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    runner = Runner(name, Addresses(*json.loads(sys.stdin.readline())))
    print("null", file=output, flush=True)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        result = getattr(runner, command)(**arguments)
        print(json.dumps(result), file=output, flush=True)
    runner.close()


if __name__ == "__main__":
    main(sys.argv[1])
