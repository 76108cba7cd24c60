"""The process of one contender: `python -m benchmarks.worker NAME`, begun by `workers.Worker`.

It takes one command a line on its standard input, and answers each with a line on its standard
output; both are JSON. It ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from time import perf_counter_ns, process_time_ns
from typing import Any

from benchmarks import running
from benchmarks.contenders import BY_NAME, REQUESTS, TASKS, THREADS
from benchmarks.servers import Addresses
from benchmarks.setup import set_up

# The engine serves a loop younger than a second by a thread; those of servers are older.
_LOOP_AGE = 1.1  # seconds


class Runner:
    """Prepares a case, and runs it in rounds."""

    def __init__(self, name: str, addresses: Addresses) -> None:
        contender = BY_NAME[name]
        set_up(contender, addresses)
        self.cases = import_module(contender.stores).Cases()
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
            return self.loop.run_until_complete(running.in_tasks(operations, count))
        if self.case in THREADS:
            return running.in_threads(self.executor, operations, int(self.case.split()[0]))
        return running.one_by_one(operations)

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
