"""A full run: all cases of all contenders, sites, round trips, growth, and what is sent."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import counts, machine, measurements, network, payloads, servers, serving
from benchmarks.cases import GROWN, MATRIX, VIEWS, concurrency
from benchmarks.contenders import CONTENDERS, GROWTH
from benchmarks.servers import Addresses
from benchmarks.worker import Worker, running

STORED = [1_000, 100_000, 2_000_000]  # sessions
SERVED = 1_000_000  # sessions
EXPIRED = 100_000  # sessions
_CHUNK = 20_000  # sessions between two steps of the progress bar
_SAMPLES = 50
_MIN_SESSIONS = 1_000  # of a scaled run
# MongoDB's own default is about half of the memory, but `mongod.running()` sets it to 0.5 GB.
_CACHE = 4  # GB


def run(scale: float) -> dict[str, Any]:
    """Measure everything, with the numbers of operations and sessions multiplied by `scale`."""
    begun = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with servers.running() as addresses, Progress(*columns, TimeElapsedColumn()) as progress:
        results = {
            "scale": scale,
            "machine": machine.describe(Path(addresses.folder)),
            "versions": machine.versions(addresses),
            "cases": _cases(addresses, scale, progress),
            "network": _network(addresses, progress),
            "growth": _growth(addresses, scale, progress),
            "counts": _counts(addresses),
        }
    results["minutes"] = (time.monotonic() - begun) / 60
    return results


def _cases(addresses: Addresses, scale: float, progress: Progress) -> list[dict[str, Any]]:
    operations = max(20, round(measurements.OPERATIONS * scale))
    measured = []
    with running(CONTENDERS, addresses) as workers:
        task = progress.add_task("cases", total=len(MATRIX))
        for case, size in MATRIX:
            progress.update(task, description=f"{case}, {payloads.label(size)}")
            taking_part = [worker for worker in workers if case in worker.contender.cases]
            results = measurements.run(taking_part, case, size, operations, concurrency(case))
            measured.append({"case": case, "bytes": size, "results": results})
            progress.advance(task)
        serving_sites = [worker for worker in workers if VIEWS.keys() & {*worker.contender.cases}]
        task = progress.add_task("sites that uvicorn serves", total=1)
        measured += serving.measure(serving_sites, addresses, scale)
        progress.advance(task)
    return measured


def _network(addresses: Addresses, progress: Progress) -> dict[str, Any]:
    task = progress.add_task("round trips", total=1)
    measured = network.measure(CONTENDERS, addresses)
    progress.advance(task)
    return measured


def _growth(addresses: Addresses, scale: float, progress: Progress) -> dict[str, Any]:
    """Measure speed, space and memory as more sessions are stored and used."""
    stored = [max(_MIN_SESSIONS, round(number * scale)) for number in STORED]
    stored = [max(number, before + 1) for before, number in pairwise([0, *stored])]
    with MongoClient[dict[str, Any]](addresses.mongodb) as client:
        # Or the server itself would remove the expired sessions before `clear_expired()` does.
        client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
        cache = min(_CACHE, psutil.virtual_memory().total // 4 // 2**30)
        size = {"wiredTigerEngineRuntimeConfig": f"cache_size={max(1, cache)}G"}
        client.admin.command({"setParameter": 1, **size})
    with running(GROWTH, addresses) as collections:
        for worker, number in zip(collections, stored, strict=True):
            _fill(worker, number, progress)
        # This comes first, because it flushes everything to the disk.
        space = [worker("call", method="space") for worker in collections]
        speed = _speed(collections, scale, progress)
    memory = _memory(addresses, stored[-1], max(_MIN_SESSIONS, round(SERVED * scale)), progress)
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
        worker("call", method="fill", first=begin, number=chunk, **more)
        progress.advance(task, chunk)


def _speed(collections: list[Worker], scale: float, progress: Progress) -> dict[str, list[Any]]:
    """Return the summaries of each case, in the order of the collections."""
    operations = max(20, round(measurements.OPERATIONS * scale))
    task, speed = progress.add_task("growth", total=len(GROWN)), {}
    for case in GROWN:
        progress.update(task, description=f"{case}, by sessions stored")
        speed[case] = list(
            measurements.run(collections, case, payloads.SIZES[0], operations).values()
        )
        progress.advance(task)
    return speed


def _memory(
    addresses: Addresses, total: int, served: int, progress: Progress
) -> list[tuple[int, int]]:
    """Return samples: the number of sessions that a new process has used, and its memory."""
    served, samples = min(served, total), []
    task = progress.add_task(f"use {served:,} sessions", total=served)
    with running(GROWTH[-1:], addresses) as [worker]:
        step = -(-served // _SAMPLES)
        for begin in range(0, served, step):
            number = min(step, served - begin)
            memory = worker("call", method="serve", first=begin, number=number)
            samples.append((begin + number, memory))
            progress.advance(task, number)
    return samples


def _clear(worker: Worker, living: int, scale: float, progress: Progress) -> dict[str, Any]:
    """Measure `clear_expired()` with so many sessions that have not expired."""
    _fill(worker, max(_MIN_SESSIONS, round(EXPIRED * scale)), progress, first=living, expired=True)
    removed, seconds = worker("call", method="clear_expired")
    return {"living": living, "removed": removed, "seconds": seconds}


def _counts(addresses: Addresses) -> dict[str, Any]:
    rows = list(counts.measure(addresses))
    return {"rows": rows, "differences": counts.differences(rows, counts.expected())}
