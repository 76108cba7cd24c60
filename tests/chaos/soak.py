"""`python -m tests.chaos.soak`: half an hour at full load, with a failover every five minutes.

Samples memory, sockets, threads and latency of gunicorn and uvicorn at the same time, and draws
them in docs/_static/soak.svg. The samples are stored in soak.json, beside this file. Exits with
status 1 if something was lost, or did not stay flat.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
from matplotlib import pyplot

import benchmarks.plots  # noqa: F401  # sets the style of all plots
from tests.chaos import replicas
from tests.chaos.browsers import Browser, Writer
from tests.chaos.sites import SERVERS, serving

_RESULTS = Path(__file__).with_name("soak.json")
_PLOT = Path(__file__).parents[2] / "docs" / "_static" / "soak.svg"
_WRITERS = 4  # for each server; together they keep two cores busy
_NOTES = 200  # after which a writer is checked, and begins a new session
_EVERY = 5.0  # seconds between two samples
_FAILOVER, _REPAIR = 300.0, 15.0  # seconds
_FLAT = 1.1  # times what it was after a sixth of the time

Samples = dict[str, list[dict[str, Any]]]


class Tireless(Writer):
    """Checks its session now and then, signs out, and begins a new one."""

    wrong = 0

    def visit(self) -> None:
        super().visit()
        if self._number % _NOTES == 0:
            self.wrong += self.check()
            self.ask(self.browser, "sign-out/")
            self.browser = Browser(self.port, self.prefix)
            while not self.ask(self.browser, "sign-in/").is_acknowledged:
                pass
            self.acknowledged = []

    def check(self) -> int:
        """Return how many of the acknowledged numbers are missing."""
        while not (response := self.browser.get("notes/")).is_acknowledged:
            time.sleep(0.1)
        return len(set(self.acknowledged) - set(response.json()["notes"]))


def measure(minutes: float) -> dict[str, Any]:
    """Run the sites, and return the samples, the times of the failovers, and what was lost."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        server = stack.enter_context(replicas.replica_set(folder))
        sites, writers = {}, {}
        for name, (options, prefix) in SERVERS.items():
            sites[name] = stack.enter_context(serving(folder, server.uri, options))
            writers[name] = [Tireless(sites[name].port, prefix) for _ in range(_WRITERS)]
        all_writers = [writer for some in writers.values() for writer in some]
        for writer in all_writers:
            writer.start()
        samples: Samples = {name: [] for name in SERVERS}
        failovers: list[float] = []
        began = time.monotonic()
        killed = None
        while (now := time.monotonic() - began) < minutes * 60:
            time.sleep(_EVERY)
            for name, site in sites.items():
                samples[name].append({"at": now, **_sample(site.process.pid, writers[name])})
            if now > _FAILOVER * (len(failovers) + 1):
                killed = server.wait_for_a_primary()
                killed.kill()
                failovers.append(now)
            elif killed and now > failovers[-1] + _REPAIR:
                killed.start()
                killed = None
            _show(now, minutes, samples)
        for writer in all_writers:
            writer.stop()
        return {
            "minutes": minutes,
            "failovers": failovers,
            "samples": samples,
            "lost": sum(writer.wrong + writer.check() for writer in all_writers),
            "broken": sorted({fault for writer in all_writers for fault in writer.broken}),
        }


def _sample(process_id: int, writers: list[Tireless]) -> dict[str, Any]:
    master = psutil.Process(process_id)
    processes = [master, *master.children(recursive=True)]
    responses = []
    for writer in writers:
        responses += writer.responses
        writer.responses = []
    times = sorted(response.seconds * 1000 for response in responses) or [0.0, 0.0]
    return {
        "memory": sum(process.memory_full_info().uss for process in processes) / 2**20,
        "sockets": sum(len(process.net_connections()) for process in processes),
        "threads": sum(process.num_threads() for process in processes),
        "median": median(times),
        "p99": quantiles(times, n=100)[-1] if len(times) > 1 else times[0],
        "requests": len(responses),
        "errors": sum(not response.is_acknowledged for response in responses),
    }


def _show(now: float, minutes: float, samples: Samples) -> None:
    last = {name: some[-1] for name, some in samples.items()}
    summary = "; ".join(
        f"{name} {one['requests'] / _EVERY:.0f}/s, {one['memory']:.0f} MiB, {one['errors']} errors"
        for name, one in last.items()
    )
    print(f"\r{now / 60:5.1f} of {minutes:.0f} min: {summary}    ", end="", flush=True)


def growth(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the median of the last third over that of the second sixth, by server and quantity."""
    summary: dict[str, dict[str, float]] = {}
    for name, some in results["samples"].items():
        sixth = len(some) // 6
        early, late = some[sixth : 2 * sixth], some[-2 * sixth :]
        summary[name] = {
            what: median(one[what] for one in late) / median(one[what] for one in early)
            for what in ("memory", "sockets", "threads", "median")
        }
    return summary


def draw(results: dict[str, Any]) -> None:
    """Draw what was measured."""
    panels = {"memory": "MiB", "sockets": "sockets", "threads": "threads", "p99": "p99, ms"}
    figure, axes = pyplot.subplots(len(panels), 1, sharex=True, figsize=(8, 8))
    for (what, label), panel in zip(panels.items(), axes, strict=True):
        for name, some in results["samples"].items():
            at = [one["at"] / 60 for one in some]
            panel.plot(at, [one[what] for one in some], label=name, linewidth=1.2)
        for failover in results["failovers"]:
            panel.axvline(failover / 60, color="#c0392b", linewidth=0.6, linestyle=":")
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
    axes[-1].set_yscale("log")
    axes[-1].set_ylim(1, None)
    axes[-1].set_xlabel("minutes; dotted: the primary is killed")
    axes[0].legend(loc="lower right")
    figure.savefig(_PLOT, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--minutes", type=float, default=30)
    results = measure(parser.parse_args().minutes)
    _RESULTS.write_text(json.dumps(results, indent=None, separators=(",", ":")) + "\n")
    draw(results)
    print()
    broken = list(results["broken"])
    for name, some in results["samples"].items():
        requests, errors = (sum(one[what] for one in some) for what in ("requests", "errors"))
        print(f"{name}: {requests:,} requests, {errors:,} errors")
        for what, times in growth(results)[name].items():
            print(f"  {what}: grew {times:.3f} times")
            if times > _FLAT:
                broken.append(f"{what} of {name} grew {times:.2f} times")
    print(f"lost: {results['lost']}")
    print("\n".join(["Broken promises:", *broken]) if broken else "Every promise held.")
    return 1 if broken or results["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
