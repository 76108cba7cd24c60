"""The process of one contender: `python -m benchmarks.worker NAME`, begun by `workers.Worker`.

It takes one command a line on its standard input, and answers each with a line on its standard
output; both are JSON. It ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

from django.utils.module_loading import import_string

from benchmarks.cases import REQUESTS, TASKS, THREADS, AsyncOperation, Operation
from benchmarks.contenders import BY_NAME, Contender
from benchmarks.servers import Addresses
from benchmarks.site import set_up

_END_TIMEOUT = 60  # seconds
# The engine serves a loop younger than a second by a thread; those of servers are older.
_LOOP_AGE = 1.1  # seconds


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


class Runner:
    """Prepares a case, and runs it in rounds."""

    def __init__(self, name: str, addresses: Addresses) -> None:
        contender = BY_NAME[name]
        set_up(contender, addresses)
        self.cases = import_string(contender.cases_class)()
        self.loop = asyncio.new_event_loop()
        self.loop_is_old = False
        self.executor = ThreadPoolExecutor(8)
        self.case = ""

    def prepare(self, case: str, size: int) -> None:
        """Store the sessions that a case needs. `size` is in bytes of JSON."""
        self.case, self.ready = case, self.cases.prepare(case, size)
        if self._in_a_loop and not self.loop_is_old:
            self.loop.run_until_complete(self._age())
            self.loop_is_old = True

    async def _age(self) -> None:
        for operation in self.ready(1):
            await operation()
        await asyncio.sleep(_LOOP_AGE)

    @property
    def _in_a_loop(self) -> bool:
        return self.case in TASKS or self.case == "ASGI request"

    def run(self, number: int) -> dict[str, Any]:
        """Run that many operations of the case. Returns nanoseconds: of each operation, of the
        whole, and of this process's processor time over the whole.
        """
        operations = self.ready(number)
        gc.collect()
        cpu, wall = process_time_ns(), perf_counter_ns()
        durations = self._run(operations)
        wall, cpu = perf_counter_ns() - wall, process_time_ns() - cpu
        if len(durations) != number:
            raise RuntimeError(f"{len(durations)} of {number} operations were run")
        return {"durations": durations, "wall": wall, "cpu": cpu}

    def _run(self, operations: Any) -> list[int]:
        if self._in_a_loop:
            count = 1 if self.case in REQUESTS else int(self.case.split()[0])
            return self.loop.run_until_complete(_in_tasks(operations, count))
        if self.case in THREADS:
            return _in_threads(self.executor, operations, int(self.case.split()[0]))
        return _one_by_one(operations)

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method that only this contender's cases have."""
        return getattr(self.cases, method)(**arguments)

    def close(self) -> None:
        """End the threads and the loop, whose own client closes with it."""
        self.executor.shutdown()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.cases.close()


def _one_by_one(operations: Iterable[Operation]) -> list[int]:
    """Run operations in this thread."""
    durations = []
    for operation in operations:
        begun = perf_counter_ns()
        operation()
        durations.append(perf_counter_ns() - begun)
    return durations


def _in_threads(executor: ThreadPoolExecutor, operations: list[Operation], count: int) -> list[int]:
    """Run operations in that many threads at once; the threads live as long as the executor, and
    so do their connections.
    """
    waiting, together = iter(operations), threading.Barrier(count)

    def work() -> list[int]:
        together.wait()
        return _one_by_one(waiting)  # the next of a list's iterator is one step of the interpreter

    return _joined(future.result() for future in [executor.submit(work) for _ in range(count)])


async def _in_tasks(operations: list[AsyncOperation], count: int) -> list[int]:
    """Run operations in that many tasks of the running loop."""
    waiting = iter(operations)
    return _joined(await asyncio.gather(*(_work(waiting) for _ in range(count))))


async def _work(operations: Iterator[AsyncOperation]) -> list[int]:
    durations = []
    for operation in operations:
        begun = perf_counter_ns()
        await operation()
        durations.append(perf_counter_ns() - begun)
    return durations


def _joined(parts: Iterable[list[int]]) -> list[int]:
    return [duration for part in parts for duration in part]


def main(name: str) -> None:
    """Serve commands until the input ends. An error ends the process, with its traceback."""
    # Whatever prints goes to the log, and only answers to who asks.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    runner = Runner(name, Addresses(*json.loads(sys.stdin.readline())))
    print("null", file=answers, flush=True)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        answer = getattr(runner, command)(**arguments)
        print(json.dumps(answer), file=answers, flush=True)
    runner.close()


if __name__ == "__main__":
    main(sys.argv[1])
