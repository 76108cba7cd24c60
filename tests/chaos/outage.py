"""MongoDB is down, comes back, or hangs, while the site gets requests."""

from __future__ import annotations

import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from testproject.mongod import free_port
from tests.chaos import replicas
from tests.chaos.browsers import Browser, Response
from tests.chaos.sites import GUNICORN, SERVERS, WSGI, serving
from tests.chaos.table import Row

TIMEOUT = 2.0  # seconds; the site's setting
AT_ONCE = 0.05  # seconds that a request may take if MongoDB is known to be down
RECOVERY = 2.0  # seconds that a recovery may take once MongoDB is back
_LATE = 1.0  # seconds that a request may take beside its operation
_PAUSE = 0.02
_MOST_PROCESSES = 2  # of a server; in each, one request finds out that MongoDB is down
# With a worker that serves one request at a time, a request that waits delays all others.
_ONE_AT_A_TIME = {"gunicorn, one at a time": ([*GUNICORN, "--workers=1", WSGI], "/")}


def run(quick: bool) -> Iterator[Row]:
    """Break, and yield a row for each fault and server."""
    seconds = 2.0 if quick else 6.0
    for name, (options, prefix) in {**SERVERS, **_ONE_AT_A_TIME}.items():
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            yield from _down_and_back(Path(folder), name, options, prefix, seconds)
    for name, (options, prefix) in SERVERS.items():
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            yield _never_replies(Path(folder), name, options, prefix)


def _down_and_back(
    folder: Path, name: str, options: list[str], prefix: str, seconds: float
) -> Iterator[Row]:
    with replicas.standalone(folder) as server:
        [mongod] = server.members
        with serving(folder, server.uri, options, TIMEOUT=TIMEOUT) as site:
            browser = Browser(site.port, prefix)
            assert browser.get("sign-in/").is_acknowledged
            assert browser.get("note/1/").is_acknowledged
            time.sleep(1.5)  # by then a loop has a client of its own
            assert browser.get("note/2/").is_acknowledged
            mongod.kill()
            yield _during(
                f"MongoDB is down for {seconds:.0f} s", name, browser, seconds, mongod.start
            )
            mongod.signal(signal.SIGSTOP)
            fault = f"MongoDB hangs for {seconds:.0f} s"
            yield _during(fault, name, browser, seconds, lambda: mongod.signal(signal.SIGCONT))
            mongod.signal(signal.SIGSTOP)
            browser.get("note/4/")
            took = site.stop()
            mongod.signal(signal.SIGCONT)
            late = (f"the site took {took:.1f} s to stop",) if took > TIMEOUT + _LATE else ()
            yield Row("the site is stopped while MongoDB hangs", name, recovery=took, late=late)


def _during(fault: str, name: str, browser: Browser, seconds: float, mend) -> Row:
    """Request pages during an outage and after it, until one succeeds."""
    cookie, broken, late = browser.cookie, set(), set()
    responses: list[Response] = []
    waited: list[Response] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for path in ("note/3/", "early/"):
            responses.append(response := browser.get(path))
            if response.seconds > TIMEOUT / 2 and len(waited) < _MOST_PROCESSES:
                waited.append(response)  # its process did not know yet
                ends = time.monotonic() + seconds
        plain = browser.get("plain/")
        if not plain.is_acknowledged:
            broken.add(f"a page without a session: {plain.status}")
        if plain.seconds > TIMEOUT / 2:
            late.add(f"a page without a session took {plain.seconds:.2f} s")
        time.sleep(_PAUSE)
    slowest = max(response.seconds for response in responses)
    if slowest > TIMEOUT + _LATE:
        late.add(f"a request waited for {slowest:.1f} s")
    following = sorted(response.seconds for response in responses if response not in waited)
    usual = following[len(following) * 95 // 100]
    if usual > AT_ONCE or following[-1] > TIMEOUT / 2:
        late.add(f"following requests took {usual:.3f} s, and up to {following[-1]:.1f} s")
    broken |= {fault for response in responses for fault in _wrong(response)}
    mend()
    back = time.monotonic()
    while not (response := browser.get("notes/")).is_acknowledged:
        responses.append(response)
        time.sleep(_PAUSE)
    recovery = response.ended - back
    if recovery > RECOVERY:
        late.add(f"requests succeeded after {recovery:.1f} s")
    if browser.cookie != cookie or response.json()["user"] is None:
        broken.add("the session was lost")
    return Row(
        *(fault, name, len(responses), len(responses)),
        slowest=slowest,
        following=usual,
        recovery=recovery,
        acknowledged=2,
        lost=len({1, 2} - set(response.json()["notes"])),
        broken=tuple(broken),
        late=tuple(late),
    )


def _wrong(response: Response) -> Iterator[str]:
    """Yield what is wrong with a response in an outage."""
    if response.status != 503:
        yield f"a response had status {response.status}"
    elif "retry-after" not in response.headers or response.body != b"The site's own page.":
        yield "a 503 lacked Retry-After, or was not the site's own page"
    if "set-cookie" in response.headers:
        yield "an error changed the cookie"


def _never_replies(folder: Path, name: str, options: list[str], prefix: str) -> Row:
    """Let the requests of eight browsers meet a server that accepts connections only."""
    with _silent_server() as uri, serving(folder, uri, options, TIMEOUT=TIMEOUT) as site:
        browsers = [Browser(site.port, prefix, "a" * 32) for _ in range(8)]
        with ThreadPoolExecutor(len(browsers)) as pool:
            responses = list(pool.map(lambda browser: browser.get("notes/"), browsers))
    slowest = max(response.seconds for response in responses)
    broken = {fault for response in responses for fault in _wrong(response)}
    late = (f"a request waited for {slowest:.1f} s",) if slowest > TIMEOUT + _LATE else ()
    fault, count = "a server accepts connections and never replies", len(responses)
    return Row(fault, name, count, count, slowest=slowest, broken=tuple(broken), late=late)


@contextmanager
def _silent_server() -> Iterator[str]:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"mongodb://127.0.0.1:{port}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()
