"""Random clients share sessions, in several processes, while connections and primaries fail.

Each client records its operations and their outcomes. In the end these are checked against what was
read, and against the database: see history.py.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from tests.chaos import failover, replicas
from tests.chaos.history import OK, READ, Event, Stored, violations
from tests.chaos.proxy import UnreliableProxy
from tests.chaos.replicas import Server
from tests.chaos.sites import environment
from tests.chaos.table import Row

TIMEOUT = 2.0  # seconds that a client gives an operation
# How the processes use sessions, and their setting ASYNC.
_WAYS = {"blocking": "auto", "native": "native", "threads": "threads", "young loops": "auto"}
_CLIENTS = [sys.executable, "-m", "tests.chaos.clients"]
_END = 60  # seconds that the clients may need to finish; see clients.py
_LATEST = 1.0  # seconds that a command whose connection was cut may take to the server
_CHANCES = {
    UnreliableProxy.LOST: 0.01,
    UnreliableProxy.UNHEARD: 0.02,
    UnreliableProxy.LATE: 0.02,
    UnreliableProxy.DELAYED: 0.1,
}
_OTHERS = 0.005  # the share of the heartbeats and handshakes that are lost
# With streaming, PyMongo's monitor needs half a second to notice a request to check the server.
_OPTIONS = {"serverMonitoringMode": "poll"}
_KEPT = Path(tempfile.gettempdir()) / "chaos-history.json"


def run(quick: bool) -> Iterator[Row]:
    """Run the clients under faults, and yield a row for each kind of fault."""
    for world, seconds in (
        (_cutting, 8 if quick else 300),
        (_losing_primaries, 10 if quick else 300),
    ):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
            yield world(stack, folder, seconds)


def _cutting(stack: ExitStack, folder: Path, seconds: float) -> Row:
    server = stack.enter_context(replicas.standalone(folder))
    unreliable = UnreliableProxy(server.members[0].port, _CHANCES, _LATEST, _OTHERS)
    proxy = stack.enter_context(closing(unreliable))

    def wait(until: float) -> None:
        time.sleep(max(0, until - time.monotonic()))
        proxy.calm_down()

    events = _events(folder, f"mongodb://127.0.0.1:{proxy.port}", seconds, wait)
    time.sleep(_LATEST + 0.5)  # by then, late commands have arrived
    fault = "connections are cut at random, and writes arrive late"
    row = _row(fault, events, _stored(server.uri), may_roll_back=False)
    missing = sorted(_CHANCES.keys() - proxy.happened.keys())
    return row._replace(late=tuple(f"no command was {fate}" for fate in missing))


def _losing_primaries(stack: ExitStack, folder: Path, seconds: float) -> Row:
    server = stack.enter_context(replicas.replica_set(folder))
    fault = "primaries are lost at random, and their last writes rolled back"
    events = _events(folder, server.uri, seconds, lambda until: _lose_primaries(server, until))
    row = _row(fault, events, _stored(server.uri), may_roll_back=True)
    was_rolled_back = any(folder.rglob("rollback/**/*.bson"))
    return row if was_rolled_back else row._replace(late=("nothing was rolled back",))


def _lose_primaries(server: Server, until: float) -> None:
    breaking = failover.cut_off
    while time.monotonic() < until:
        server.wait_until_all_follow()
        time.sleep(random.uniform(1, 4))  # clients work
        primary = server.wait_for_a_primary()
        mend = breaking(server, primary)
        server.wait_for_a_primary(other_than=primary)
        time.sleep(random.uniform(1, 4))
        mend()
        breaking = random.choice([failover.cut_off, failover.cut_off, failover.kill])
    server.wait_for_a_primary()


def _events(
    folder: Path, uri: str, seconds: float, breaking: Callable[[float], None]
) -> list[Event]:
    """Return the events of clients that run for so many seconds, while something breaks."""
    running = [_start(way, number, folder, uri) for number, way in enumerate(_WAYS)]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
        until = time.monotonic() + seconds
        for process in running:
            assert process.stdin is not None
            process.stdin.write(f"{until}\n".encode())
            process.stdin.close()
        breaking(until)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(1, until + _END - time.monotonic()))
    finally:
        for process in running:
            process.kill()
            process.wait()
    for number, (way, process) in enumerate(zip(_WAYS, running, strict=True)):
        log = (folder / f"log{number}").read_text()[-5000:]
        assert process.returncode == 0, f"{way} ended with status {process.returncode}: {log}"
    lines = [line for file in folder.glob("events*") for line in file.read_text().splitlines()]
    return [Event.parse(json.loads(line)) for line in lines]


def _start(way: str, number: int, folder: Path, uri: str) -> subprocess.Popen[bytes]:
    with (folder / f"log{number}").open("w") as log:
        return subprocess.Popen(
            [*_CLIENTS, way, str(folder / f"events{number}")],
            env=environment(uri, ASYNC=_WAYS[way], TIMEOUT=TIMEOUT, CLIENT_OPTIONS=_OPTIONS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def _stored(uri: str) -> list[Stored]:
    result = subprocess.run(
        [*_CLIENTS, "stored"],
        env=environment(uri),
        check=True,
        capture_output=True,
        timeout=_END,
    )
    return [Stored(session, tuple(tokens)) for session, tokens in json.loads(result.stdout)]


def _row(fault: str, events: list[Event], stored: list[Stored], may_roll_back: bool) -> Row:
    found = violations(events, stored, may_roll_back)
    if found:
        _KEPT.write_text(json.dumps([events, stored]))
    done = [event for event in events if event.outcome == OK]
    return Row(
        *(fault, ", ".join(_WAYS), len(events), len(events) - len(done)),
        slowest=max(event.ended - event.began for event in events),
        acknowledged=sum(event.kind != READ for event in done),
        lost=len(found),
        broken=(*found[:10], f"the history is in {_KEPT}") if found else (),
    )
