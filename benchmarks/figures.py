"""What is kept of many measurements. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any


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
