"""How operations are run and timed: one after another, in threads, or as tasks of one loop.

All return nanoseconds, one for each operation, in the order in which they ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns

Operation = Callable[[], object]
AsyncOperation = Callable[[], Awaitable[object]]


def one_by_one(operations: Iterable[Operation]) -> list[int]:
    """Run operations in this thread."""
    durations = []
    for operation in operations:
        begun = perf_counter_ns()
        operation()
        durations.append(perf_counter_ns() - begun)
    return durations


def in_threads(executor: ThreadPoolExecutor, operations: list[Operation], count: int) -> list[int]:
    """Run operations in that many threads at once; the threads live as long as the executor, and
    so do their connections.
    """
    waiting, together = iter(operations), threading.Barrier(count)

    def work() -> list[int]:
        together.wait()
        return one_by_one(waiting)  # the next of a list's iterator is one step of the interpreter

    return _joined(future.result() for future in [executor.submit(work) for _ in range(count)])


async def in_tasks(operations: list[AsyncOperation], count: int) -> list[int]:
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
