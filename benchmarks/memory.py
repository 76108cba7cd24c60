"""Watch the memory of one process that loads and saves sessions for long, many at once.

`python -m benchmarks memory` prints it. Half of the operations run in 64 tasks of one event loop,
and half in 16 threads. It takes a while, and so is no part of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import payloads
from benchmarks.contenders import BY_NAME, OURS
from benchmarks.servers import Addresses
from benchmarks.worker import running

_CASES = ["64 tasks", "16 threads"]
_SAMPLES = 50
FLAT = 1.05  # times the memory that the process has after a tenth of the operations


class Sample(NamedTuple):
    """The number of loads and saves so far, and the memory of the process in bytes."""

    operations: int
    memory: int


def watch(addresses: Addresses, operations: int) -> Iterator[Sample]:
    """Yield samples, the last one after that many loads and saves. Only MongoDB must be running."""
    both = operations // 2  # each is a load and a save
    step = max(1, both // _SAMPLES // len(_CASES))
    done = 0
    with running([BY_NAME[OURS]], addresses) as [worker]:
        while done < both:
            for case in _CASES:
                number = min(step, both - done)
                if number:
                    worker("prepare", case=case, size=payloads.SIZES[0])
                    worker("run", number=number)
                    done += number
            yield Sample(done * 2, worker("memory"))


def describe(sample: Sample) -> str:
    """Return the line of a sample."""
    return f"{sample.operations:>9,} loads and saves: {sample.memory / 2**20:6.1f} MiB"


def fault(samples: list[Sample]) -> str | None:
    """Return what is wrong with these samples, or None if the memory stayed flat."""
    last = samples[-1]
    early = next(each for each in samples if each.operations >= last.operations / 10)
    if last.memory <= early.memory * FLAT:
        return None
    return (
        f"The memory grew to {last.memory / early.memory:.2f} times what it was after "
        f"{early.operations:,} loads and saves. At most {FLAT} times is allowed."
    )
