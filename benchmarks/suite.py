"""What is measured, of whom, and how often: the whole of a full run."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import counts, machine, measurements, payloads, servers, targets
from benchmarks.cases import MATRIX, concurrency
from benchmarks.contenders import CONTENDERS, GROWTH
from benchmarks.servers import Addresses
from benchmarks.worker import Worker, running

STORED = [1_000, 100_000, 2_000_000]  # sessions
SERVED = 1_000_000  # sessions
EXPIRED = 100_000  # sessions
_CHUNK = 20_000  # sessions between two steps of the progress bar
_SAMPLES = 50
_LEAST = 1_000  # sessions of a scaled run
# A server's own default is half of the memory; the one here begins with 0.5 GB.
_CACHE = 4  # GB


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
            "growth": _growth(addresses, scale, progress),
            "counts": _counts(addresses),
        }
    results["targets"] = targets.judged(results)
    results["minutes"] = (time.monotonic() - begun) / 60
    return results


def _cases(addresses: Addresses, scale: float, progress: Progress) -> list[dict[str, Any]]:
    operations = max(20, round(measurements.OPERATIONS * scale))
    measured = []
    with running(CONTENDERS, addresses) as everybody:
        task = progress.add_task("cases", total=len(MATRIX))
        for case, size in MATRIX:
            progress.update(task, description=f"{case}, {payloads.label(size)}")
            taking_part = [worker for worker in everybody if case in worker.contender.cases]
            results = measurements.run(taking_part, case, size, operations, concurrency(case))
            measured.append({"case": case, "bytes": size, "results": results})
            progress.advance(task)
    return measured


def _growth(addresses: Addresses, scale: float, progress: Progress) -> dict[str, Any]:
    """Return the figures, with all counts multiplied by `scale`, but for the smallest."""
    stored = [max(_LEAST, round(number * scale)) for number in STORED]
    stored = [max(number, before + 1) for before, number in pairwise([0, *stored])]
    with MongoClient[dict[str, Any]](addresses.mongodb) as client:
        # The server would remove what is there for `clear_expired` to remove.
        client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
        cache = min(_CACHE, psutil.virtual_memory().total // 4 // 2**30)
        size = {"wiredTigerEngineRuntimeConfig": f"cache_size={max(1, cache)}G"}
        client.admin.command({"setParameter": 1, **size})
    with running(GROWTH, addresses) as collections:
        for worker, number in zip(collections, stored, strict=True):
            _fill(worker, number, progress)
        # First, since it lets the server write down what it was given.
        space = [worker("ask", method="space") for worker in collections]
        speed = _speed(collections, scale, progress)
    memory = _memory(addresses, stored[-1], max(_LEAST, round(SERVED * scale)), progress)
    with running(GROWTH[1:], addresses) as collections:
        among = list(zip(collections, stored[1:], strict=True))
        clear = [_clear(worker, living, scale, progress) for worker, living in among]
    return {
        "cache_gb": max(1, cache),
        "stored": stored,
        "speed": speed,
        "space": space,
        "memory": memory,
        "clear_expired": clear,
    }


def _fill(worker: Worker, number: int, progress: Progress, first: int = 0, **more: Any) -> None:
    task = progress.add_task(f"store {number:,} sessions", total=number)
    for begin in range(first, first + number, _CHUNK):
        chunk = min(_CHUNK, first + number - begin)
        worker("ask", method="fill", first=begin, number=chunk, **more)
        progress.advance(task, chunk)


def _speed(collections: list[Worker], scale: float, progress: Progress) -> dict[str, list[Any]]:
    """Return for each case the summaries, in the order of the collections."""
    operations = max(20, round(measurements.OPERATIONS * scale))
    task, speed = progress.add_task("growth", total=2), {}
    for case in ["load", "save"]:
        progress.update(task, description=f"{case} among them")
        speed[case] = list(
            measurements.run(collections, case, payloads.SIZES[0], operations).values()
        )
        progress.advance(task)
    return speed


def _memory(
    addresses: Addresses, total: int, served: int, progress: Progress
) -> list[tuple[int, int]]:
    """Return how many different sessions a new process has served, and its bytes of memory."""
    served, samples = min(served, total), []
    task = progress.add_task(f"serve {served:,} sessions", total=served)
    with running(GROWTH[-1:], addresses) as [worker]:
        step = -(-served // _SAMPLES)
        for begin in range(0, served, step):
            number = min(step, served - begin)
            memory = worker("ask", method="serve", first=begin, number=number)
            samples.append((begin + number, memory))
            progress.advance(task, number)
    return samples


def _clear(worker: Worker, living: int, scale: float, progress: Progress) -> dict[str, Any]:
    """Return the seconds that `clear_expired` takes among so many that live."""
    _fill(worker, max(_LEAST, round(EXPIRED * scale)), progress, first=living, expired=True)
    removed, seconds = worker("ask", method="clear_expired")
    return {"living": living, "removed": removed, "seconds": seconds}


def _counts(addresses: Addresses) -> dict[str, Any]:
    rows = list(counts.measured(addresses))
    return {"rows": rows, "differences": counts.differences(rows, counts.expected())}
