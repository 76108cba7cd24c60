"""Measure a case for all contenders, and summarize the results.

The contenders take turns, in rounds, so that anything that slows the machine slows all of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.worker import Worker

OPERATIONS = 2_000  # the least of each contender in each case
_ROUND = 100  # operations
_MIN_ROUNDS = 4
# At the start and the end of a round, some of its threads or tasks have nothing to do.
_PER_TASK = 8


def plan(operations: int, concurrency: int) -> tuple[int, int]:
    """Return the number of rounds, and the number of operations in each."""
    size = max(_ROUND, concurrency * _PER_TASK)
    rounds = max(_MIN_ROUNDS, -(-operations // size))
    return rounds, min(size, -(-operations // rounds))


def run(
    workers: list[Worker],
    case: str,
    size: int,
    operations: int,
    concurrency: int = 1,
) -> dict[str, dict[str, Any]]:
    """Return the summary of each contender, by name. `size` is in bytes of JSON.

    Only one worker runs at a time. The order changes with each round. The first round is not
    counted.
    """
    rounds, number = plan(operations, concurrency)
    for worker in workers:
        worker("prepare", case=case, size=size)
    results: dict[str, list[dict[str, Any]]] = {worker.contender.name: [] for worker in workers}
    order, chance = list(workers), random.Random(case)
    for turn in range(rounds + 1):
        chance.shuffle(order)
        for worker in order:
            result = worker("run", number=number)
            if turn:  # not in the first round
                results[worker.contender.name].append(result)
    return {name: summary(each) for name, each in results.items()}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of ordered values, by the nearest rank."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarize the rounds of one contender in one case.

    A round has nanoseconds: `durations` of its operations, and `wall` and `cpu` of the whole
    round. The summary has microseconds: `median` and `p99` of all operations, the median of the
    `fastest_round` and of the `slowest_round`, and `cpu`, the processor time that the contender's
    process used for one operation. `per_second` is the number of operations per second of wall
    time.
    """
    durations = sorted(duration for one in rounds for duration in one["durations"])
    medians = [median(one["durations"]) for one in rounds]
    wall, cpu = (sum(one[what] for one in rounds) for what in ("wall", "cpu"))
    return {
        "operations": len(durations),
        "rounds": len(rounds),
        "median": median(durations) / 1_000,
        "p99": percentile(durations, 99) / 1_000,
        "fastest_round": min(medians) / 1_000,
        "slowest_round": max(medians) / 1_000,
        "cpu": cpu / len(durations) / 1_000,
        "per_second": len(durations) * 1e9 / wall,
    }
