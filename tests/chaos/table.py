"""What was broken, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HEADINGS = (
    *("what was broken", "on", "requests", "errors", "slowest", "then", "well again after"),
    *("acknowledged", "lost"),
)


class Row(NamedTuple):
    """One fault, on one server. Times are in seconds; None where there is nothing to tell."""

    fault: str
    on: str
    requests: int | None = None
    errors: int | None = None
    slowest: float | None = None
    following: float | None = None  # 95 % of the requests after the first took at most this
    recovery: float | None = None
    acknowledged: int | None = None
    lost: int | None = None
    broken: tuple[str, ...] = ()  # the promises that did not hold, in words

    def cells(self) -> list[str]:
        requests, errors, acknowledged, lost = (
            "" if value is None else f"{value:,}"
            for value in (self.requests, self.errors, self.acknowledged, self.lost)
        )
        seconds = (
            "" if value is None else f"{value:.3f} s" if value < 0.1 else f"{value:.1f} s"
            for value in (self.slowest, self.following, self.recovery)
        )
        return [self.fault, self.on, requests, errors, *seconds, acknowledged, lost]


def markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
