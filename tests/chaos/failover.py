"""A replica set loses its primary while the site writes."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.chaos import replicas
from tests.chaos.browsers import Leaver, Writer
from tests.chaos.replicas import Member, Server
from tests.chaos.sites import SERVERS, serving
from tests.chaos.table import Row

WRITERS = 8
RESUME = 5.0  # seconds from the election until writes succeed
_STOPPED = 20  # seconds
_AFTERWARDS = 6  # seconds from the election until the former primary comes back


def kill(server: Server, primary: Member) -> Callable[[], None]:
    primary.kill()
    return primary.start


def _step_down(server: Server, primary: Member) -> Callable[[], None]:
    replicas.step_down(primary)
    return lambda: None


def _stop(server: Server, primary: Member) -> Callable[[], None]:
    primary.signal(signal.SIGSTOP)
    began = time.monotonic()

    def mend() -> None:
        time.sleep(max(0, began + _STOPPED - time.monotonic()))
        primary.signal(signal.SIGCONT)
        time.sleep(4)

    return mend


def cut_off(server: Server, primary: Member) -> Callable[[], None]:
    """Isolate a primary while it takes writes, and kill it: those writes are rolled back."""
    others = [member for member in server.members if member is not primary]
    for member in others:
        member.kill()  # if stopped, they would find the writes in their sockets
    time.sleep(1)  # the primary steps down after two
    primary.kill()
    for member in others:
        member.start()
    return primary.start


FAULTS = {
    "the primary is isolated, takes writes, and is killed": cut_off,
    "the primary is killed": kill,
    "the primary steps down": _step_down,
    f"the primary is stopped for {_STOPPED} s": _stop,
}


def run(quick: bool) -> Iterator[Row]:
    """Break, and yield a row for each fault and server."""
    faults = list(FAULTS.items())[: 1 if quick else None]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        server = stack.enter_context(replicas.replica_set(folder))
        ports = {}
        for name, (options, _) in SERVERS.items():
            ports[name] = stack.enter_context(serving(folder, server.uri, options)).port
        for fault, breaking in faults:
            yield from _during(fault, breaking, server, ports)


def _during(
    fault: str,
    breaking: Callable[[Server, Member], Callable[[], None]],
    server: Server,
    ports: dict[str, int],
) -> Iterator[Row]:
    places = {name: (port, SERVERS[name][1]) for name, port in ports.items()}
    writers = {name: [Writer(*place) for _ in range(WRITERS)] for name, place in places.items()}
    leavers = {name: Leaver(*place) for name, place in places.items()}
    visitors = [*leavers.values(), *(one for some in writers.values() for one in some)]
    for visitor in visitors:
        visitor.start()
    time.sleep(2)
    primary = server.wait_for_a_primary()
    mend = breaking(server, primary)
    server.wait_for_a_primary(other_than=primary)
    elected = time.monotonic()
    time.sleep(_AFTERWARDS)
    mend()
    for visitor in visitors:
        visitor.stop()
    for name in places:
        yield _row(fault, name, writers[name], leavers[name], elected)


def _row(fault: str, name: str, writers: list[Writer], leaver: Leaver, elected: float) -> Row:
    responses = [response for visitor in (*writers, leaver) for response in visitor.responses]
    lost = sum(writer.lost() for writer in writers)
    came_back = leaver.came_back()
    resumed = max(
        min(one.ended for one in writer.responses if one.is_acknowledged and one.ended > elected)
        - elected
        for writer in writers
    )
    broken = {fault for visitor in (*writers, leaver) for fault in visitor.broken}
    if came_back:
        broken.add(f"{came_back} of {len(leaver.ended)} signed-out sessions came back")
    return Row(
        *(fault, name, len(responses), sum(not response.is_acknowledged for response in responses)),
        slowest=max(response.seconds for response in responses),
        recovery=resumed,
        acknowledged=sum(len(writer.acknowledged) for writer in writers) + len(leaver.ended),
        lost=lost + came_back,
        broken=tuple(broken),
        late=(f"writes succeeded after {resumed:.1f} s",) if resumed > RESUME else (),
    )
