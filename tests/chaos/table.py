"""The table of what was broken, and of the results."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_PAGE = Path(__file__).parents[2] / "docs" / "outages.md"
_MARK = "<!-- chaos: `python -m tests.chaos --write` writes what follows -->\n"
HEADINGS = (
    *("fault", "on", "requests", "errors", "slowest, s", "then, s", "recovery, s"),
    *("acknowledged", "lost"),
)


class Row(NamedTuple):
    """One fault, on one server. Times are in seconds. None is an empty cell."""

    fault: str
    on: str
    requests: int | None = None
    errors: int | None = None
    slowest: float | None = None
    following: float | None = None  # 95 % of the requests after the first took at most this
    recovery: float | None = None
    acknowledged: int | None = None
    lost: int | None = None
    broken: tuple[str, ...] = ()  # a sentence for each promise that did not hold
    late: tuple[str, ...] = ()  # the same for times, which a busy machine may break

    def faults(self) -> list[str]:
        """Return the promises that did not hold, except those about times."""
        return [*self.broken, *([f"{self.lost} lost"] if self.lost else [])]

    def cells(self) -> list[str]:
        """Return the cells of this row as text."""
        requests, errors, acknowledged, lost = (
            "" if value is None else f"{value:,}"
            for value in (self.requests, self.errors, self.acknowledged, self.lost)
        )
        seconds = (
            "" if value is None else f"{value:.3f}" if value < 0.1 else f"{value:.1f}"
            for value in (self.slowest, self.following, self.recovery)
        )
        return [self.fault, self.on, requests, errors, *seconds, acknowledged, lost]


def markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(rows: Iterable[Row], seconds: float) -> None:
    """Write the rows to the page of the documentation, with the date and the versions."""
    before, mark, _ = _PAGE.read_text().partition(_MARK)
    assert mark, f"{_PAGE} has no place for the table"
    versions = ", ".join(f"{name} {version(name)}" for name in ("Django", "pymongo", "gunicorn"))
    where = (
        f"Measured on {date.today()} in {seconds / 60:.0f} minutes: {platform.system()}, Python "
        f"{sys.version.split()[0]}, {versions}, uvicorn {version('uvicorn')}."
    )
    _PAGE.write_text(f"{before}{mark}\n{where}\n\n{markdown(rows)}\n")
