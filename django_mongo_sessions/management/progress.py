"""Show the progress of a command: a bar on a terminal if rich is installed, and lines otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any


def show(steps: Iterable[int], total: int | None, output: Any) -> None:
    """Take all steps, each of which says how many are done, and show them on a stream."""
    with _bar(output) or nullcontext() as bar:
        update = _line(total, output) if bar is None else _advance(bar, total)
        for done in steps:
            update(done)


def _bar(output: Any) -> Any:
    """Return a bar of rich's; None if the stream is no terminal, or rich is not installed."""
    if not output.isatty():
        return None
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:  # the extra [import]
        return None
    return progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        console=Console(file=output),
    )


def _advance(bar: Any, total: int | None) -> Callable[[int], None]:
    began = time.monotonic()
    task = bar.add_task("", total=total, rate="")

    def update(done: int) -> None:
        bar.update(task, completed=done, rate=_rate(done, began))

    return update


def _line(total: int | None, output: Any) -> Callable[[int], None]:
    began = time.monotonic()

    def update(done: int) -> None:
        parts = [f"{done:,}" if total is None else f"{done:,} of {total:,}", _rate(done, began)]
        if total is not None:
            left = max(total - done, 0) * (time.monotonic() - began) / done
            parts.append(f"{left:,.0f} s left")
        output.write(", ".join(parts) + "\n")

    return update


def _rate(done: int, began: float) -> str:
    return f"{done / max(time.monotonic() - began, 1e-9):,.0f}/s"
