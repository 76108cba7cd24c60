"""A replica set loses its primary while the site is written to."""

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
RESUME = 5.0  # seconds from the election in which writes go on
_STOPPED = 20  # seconds for which a process is stopped


def _kill(server: Server, primary: Member) -> Callable[[], None]:
    primary.kill()
    return lambda: _begin_again(primary)


def _step_down(server: Server, primary: Member) -> Callable[[], None]:
    replicas.step_down(primary)
    return lambda: time.sleep(4)


def _stop(server: Server, primary: Member) -> Callable[[], None]:
    primary.signal(signal.SIGSTOP)
    began = time.monotonic()

    def go_on() -> None:
        time.sleep(max(0, began + _STOPPED - time.monotonic()))
        primary.signal(signal.SIGCONT)
        time.sleep(4)

    return go_on


def _cut_off(server: Server, primary: Member) -> Callable[[], None]:
    """Let a primary write what no other member hears of, and lose it: that is rolled back."""
    others = [member for member in server.members if member is not primary]
    for member in others:
        member.kill()  # stopped, they would find it in their sockets
    time.sleep(1)  # the primary steps down after two
    primary.kill()
    for member in others:
        member.start()
    return lambda: _begin_again(primary)


def _begin_again(member: Member) -> None:
    time.sleep(6)
    member.start()


FAULTS = {
    "the primary is left alone, writes, and is killed": _cut_off,
    "the primary is killed": _kill,
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
    everybody = [*leavers.values(), *(one for some in writers.values() for one in some)]
    for visitor in everybody:
        visitor.start()
    time.sleep(2)
    primary = server.wait_for_a_primary()
    go_on = breaking(server, primary)
    server.wait_for_a_primary(other_than=primary)
    elected = time.monotonic()
    go_on()
    for visitor in everybody:
        visitor.stop()
    for name in places:
        yield _row(fault, name, writers[name], leavers[name], elected)


def _row(fault: str, name: str, writers: list[Writer], leaver: Leaver, elected: float) -> Row:
    answers = [answer for visitor in (*writers, leaver) for answer in visitor.answers]
    lost = sum(writer.lost() for writer in writers)
    came_back = leaver.came_back()
    resumed = max(
        min(one.ended for one in writer.answers if one.is_acknowledged and one.ended > elected)
        - elected
        for writer in writers
    )
    broken = {said for visitor in (*writers, leaver) for said in visitor.broken}
    if came_back:
        broken.add(f"{came_back} of {len(leaver.ended)} signed-out sessions came back")
    return Row(
        *(fault, name, len(answers), sum(not answer.is_acknowledged for answer in answers)),
        slowest=max(answer.seconds for answer in answers),
        recovery=resumed,
        acknowledged=sum(len(writer.acknowledged) for writer in writers) + len(leaver.ended),
        lost=lost + came_back,
        broken=tuple(broken),
        late=(f"writes went on after {resumed:.1f} s",) if resumed > RESUME else (),
    )
