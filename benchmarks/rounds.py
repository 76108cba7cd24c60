"""Runs one case for all contenders, in interleaved rounds: what slows the machine slows all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from benchmarks.figures import summary
from benchmarks.workers import Worker

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
    tell: Callable[[], Any] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Return the summary of each contender, by its name. `size` is in bytes of JSON.

    One worker works at a time. The order of each round is another, and the first round is not
    counted. Calls `tell` after each round of a worker.
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
            tell()
    return {name: summary(results) for name, results in measured.items()}
