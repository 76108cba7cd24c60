"""What is measured, of whom, and how often: the whole of a full run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import counts, growth, machine, payloads, rounds, servers, targets, workers
from benchmarks.contenders import CONTENDERS
from benchmarks.matrix import MATRIX, concurrency


def run(scale: float) -> dict[str, Any]:
    """Measure all, with the counts of operations and sessions multiplied by `scale`."""
    begun = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with servers.all_of_them() as addresses, Progress(*columns, TimeElapsedColumn()) as progress:
        results = {
            "scale": scale,
            "machine": machine.described(Path(addresses.folder)),
            "versions": machine.versions(addresses),
            "cases": _cases(addresses, scale, progress),
            "growth": growth.run(addresses, scale, progress),
            "counts": _counts(addresses),
        }
    results["targets"] = targets.judged(results)
    results["minutes"] = (time.monotonic() - begun) / 60
    return results


def _cases(addresses: servers.Addresses, scale: float, progress: Progress) -> list[dict[str, Any]]:
    operations = max(20, round(rounds.OPERATIONS * scale))
    measured = []
    with workers.running(CONTENDERS, addresses) as everybody:
        task = progress.add_task("cases", total=len(MATRIX))
        for case, size in MATRIX:
            progress.update(task, description=f"{case}, {payloads.label(size)}")
            taking_part = [worker for worker in everybody if case in worker.contender.cases]
            results = rounds.run(taking_part, case, size, operations, concurrency(case))
            measured.append({"case": case, "bytes": size, "results": results})
            progress.advance(task)
    return measured


def _counts(addresses: servers.Addresses) -> dict[str, Any]:
    rows = list(counts.measured(addresses))
    return {"rows": rows, "differences": counts.differences(rows, counts.expected())}
