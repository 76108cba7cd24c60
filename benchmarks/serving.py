"""Serve the site of each contender with uvicorn, and load it with wrk.

The sites take turns, in rounds, as in `measurements`. The processor time is that of the site's
process alone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from django.conf import global_settings

from benchmarks import payloads, servers
from benchmarks.cases import VIEWS
from benchmarks.contenders import Contender
from benchmarks.servers import Addresses, ServerError
from benchmarks.worker import Worker
from testproject import mongod

CONNECTIONS = 64
SIZE = payloads.SIZES[0]
_SESSIONS = 256
_ROUNDS, _SECONDS = 5, 5
_MIN_SECONDS = 3  # of a scaled run
_START_TIMEOUT = 60  # seconds
_ROOT = Path(__file__).resolve().parent.parent
# Each request has the cookie of the next session.
_SCRIPT = """
local cookies, turn = {}, 0
for line in io.lines(os.getenv("COOKIES")) do cookies[#cookies + 1] = line end
request = function()
    turn = turn % #cookies + 1
    return wrk.format("GET", nil, {["Cookie"] = cookies[turn]})
end
"""


class Site:
    """A contender's site, served by a process of its own, and the sessions that wrk uses."""

    def __init__(self, contender: Contender, addresses: Addresses, keys: list[str]) -> None:
        folder = Path(addresses.folder)
        self.log = folder / f"{contender.name}-uvicorn.log"
        self.cookies = folder / f"{contender.name}-cookies"
        name = global_settings.SESSION_COOKIE_NAME
        self.cookies.write_text("\n".join(f"{name}={key}" for key in keys))
        self.script = folder / "wrk.lua"
        self.script.write_text(_SCRIPT)
        self.port = mongod.free_port()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "benchmarks.asgi:application"),
                    *("--host=127.0.0.1", f"--port={self.port}", "--log-level=warning"),
                ],
                cwd=_ROOT,
                env={
                    **os.environ,
                    "BENCHMARKS_CONTENDER": contender.name,
                    "BENCHMARKS_ADDRESSES": json.dumps(addresses),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Wait until the site accepts connections. Raise ServerError if it does not."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    message = f"uvicorn did not start:\n{self.log.read_text()}"
                    raise ServerError(message) from error
                time.sleep(0.1)

    def load(self, path: str, seconds: float) -> dict[str, float]:
        """Load the site for so many seconds; return requests per second, and times in µs.

        `median` and `p99` are the latencies, and `cpu` is processor time per request.
        """
        used = _used(self.process.pid)
        done = subprocess.run(
            [
                *(servers.find("wrk"), "--latency", "--threads=1", "--timeout=30s"),
                *(f"--connections={CONNECTIONS}", f"--duration={seconds:.0f}s"),
                *(f"--script={self.script}", f"http://127.0.0.1:{self.port}{path}"),
            ],
            env={**os.environ, "COOKIES": str(self.cookies)},
            capture_output=True,
            text=True,
            check=True,
        )
        used = _used(self.process.pid) - used
        try:
            figures = parse(done.stdout)
        except ServerError as error:
            last = self.log.read_text(errors="replace").splitlines()[-10:]
            raise ServerError("\n".join([str(error), *last])) from error
        return {"cpu": used * 1e6 / figures.pop("requests"), **figures}

    def stop(self) -> None:
        """Stop the site."""
        self.process.terminate()
        self.process.wait()


def parse(output: str) -> dict[str, float]:
    """Return what wrk has printed. Raise ServerError if a request failed, or none was served."""
    [requests] = re.findall(r"(\d+) requests in", output)
    if "Non-2xx" in output or "Socket errors" in output or requests == "0":
        raise ServerError(f"Some measured requests failed, or none was served:\n{output}")
    latencies = dict(re.findall(r"^ +(50|99)% +([\d.]+[a-z]+) *$", output, re.MULTILINE))
    [per_second] = re.findall(r"Requests/sec: +([\d.]+)", output)
    return {
        "requests": float(requests),
        "per_second": float(per_second),
        "median": _microseconds(latencies["50"]),
        "p99": _microseconds(latencies["99"]),
    }


def _microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}[unit]


def _used(pid: int) -> float:
    """Return the processor time of a process in seconds."""
    import psutil  # which the tests do without

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def _serving(workers: list[Worker], addresses: Addresses) -> Iterator[dict[str, Site]]:
    """Serve the sites of these workers' contenders during the block, with sessions of theirs."""
    with ExitStack() as stack:
        sites = {}
        for worker in workers:
            worker("prepare", case="load", size=SIZE)
            keys = worker("call", method="stored_keys", number=_SESSIONS)
            sites[worker.contender.name] = Site(worker.contender, addresses, keys)
            stack.callback(sites[worker.contender.name].stop)
        for site in sites.values():
            site.wait()
        yield sites


def measure(workers: list[Worker], addresses: Addresses, scale: float) -> list[dict[str, Any]]:
    """Return a row for each view, with the medians of the rounds of each contender."""
    seconds = max(_MIN_SECONDS, round(_SECONDS * scale))
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    with _serving(workers, addresses) as sites:
        for turn in range(_ROUNDS + 1):
            for case, path in VIEWS.items():
                for name, site in sites.items():
                    figures = site.load(path, seconds)
                    if turn:  # not in the first round
                        rounds.setdefault((case, name), []).append(figures)
    return [
        {
            "case": case,
            "bytes": SIZE,
            "results": {name: _medians(rounds[case, name]) for name in sites},
        }
        for case in VIEWS
    ]


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {what: median(each[what] for each in rounds) for what in rounds[0]}
