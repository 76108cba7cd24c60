"""Runs one case for all contenders, in interleaved rounds: what slows the machine slows all."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.worker import Worker

OPERATIONS = 2_000  # of a contender in a case, at least
_ROUND = 100  # operations
_FEWEST_ROUNDS = 4
# A round of several threads or tasks begins and ends with fewer of them at work.
_PER_TASK = 8


def plan(operations: int, concurrency: int) -> tuple[int, int]:
    """Return how many rounds a case has, and how many operations a round."""
    size = max(_ROUND, concurrency * _PER_TASK)
    rounds = max(_FEWEST_ROUNDS, -(-operations // size))
    return rounds, min(size, -(-operations // rounds))


def run(
    workers: list[Worker],
    case: str,
    size: int,
    operations: int,
    concurrency: int = 1,
) -> dict[str, dict[str, Any]]:
    """Return the summary of each contender, by its name. `size` is in bytes of JSON.

    One worker works at a time. The order of each round is another, and the first round is not
    counted.
    """
    rounds, number = plan(operations, concurrency)
    for worker in workers:
        worker("prepare", case=case, size=size)
    measured: dict[str, list[dict[str, Any]]] = {worker.contender.name: [] for worker in workers}
    order, chance = list(workers), random.Random(case)
    for turn in range(rounds + 1):
        chance.shuffle(order)
        for worker in order:
            result = worker("run", number=number)
            if turn:
                measured[worker.contender.name].append(result)
    return {name: summary(results) for name, results in measured.items()}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of the ordered ones do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the rounds of one contender in one case come to; all in microseconds.

    A round holds nanoseconds: `durations` of each operation, `wall` and `cpu` of the whole.
    `median`, `p99` and `slowest_round` (a median) are of single operations; `cpu` is the
    contender's own process's, an operation; `per_second` are operations, over the wall's time.
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
