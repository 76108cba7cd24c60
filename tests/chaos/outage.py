"""MongoDB is away, comes back, or hangs, while the site is asked for pages."""

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
from tests.chaos.browsers import Answer, Browser
from tests.chaos.sites import GUNICORN, SERVERS, WSGI, serving
from tests.chaos.table import Row

TIMEOUT = 2.0  # seconds that the site gives an operation
AT_ONCE = 0.05  # seconds in which what is known to be away is not waited for
RECOVERY = 2.0  # seconds from MongoDB's return in which all is well again
_LATE = 1.0  # seconds that a request may take beside its operation
_PAUSE = 0.02
_MOST_PROCESSES = 2  # of a server; in each, one request finds out that MongoDB is away
# A worker that serves one request after another shows what a waiting request keeps waiting.
_ONE_BY_ONE = {"gunicorn, one by one": ([*GUNICORN, "--workers=1", WSGI], "/")}


def run(quick: bool) -> Iterator[Row]:
    """Break, and yield a row for each fault and server."""
    seconds = 2.0 if quick else 6.0
    for name, (options, prefix) in {**SERVERS, **_ONE_BY_ONE}.items():
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            yield from _away_and_back(Path(folder), name, options, prefix, seconds)
    for name, (options, prefix) in SERVERS.items():
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            yield _never_answers(Path(folder), name, options, prefix)


def _away_and_back(
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
                f"MongoDB is away for {seconds:.0f} s", name, browser, seconds, mongod.start
            )
            mongod.signal(signal.SIGSTOP)
            fault = f"MongoDB hangs for {seconds:.0f} s"
            yield _during(fault, name, browser, seconds, lambda: mongod.signal(signal.SIGCONT))
            mongod.signal(signal.SIGSTOP)
            browser.get("note/4/")
            took = site.stop()
            mongod.signal(signal.SIGCONT)
            late = (f"the site took {took:.1f} s to end",) if took > TIMEOUT + _LATE else ()
            yield Row("the site is ended while MongoDB hangs", name, recovery=took, late=late)


def _during(fault: str, name: str, browser: Browser, seconds: float, mend) -> Row:
    """Ask for pages during an outage and after it, until all is well again."""
    cookie, broken, late = browser.cookie, set(), set()
    answers: list[Answer] = []
    waited: list[Answer] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for path in ("note/3/", "early/"):
            answers.append(answer := browser.get(path))
            if answer.seconds > TIMEOUT / 2 and len(waited) < _MOST_PROCESSES:
                waited.append(answer)  # a process that found out, and whose others are to follow
                ends = time.monotonic() + seconds
        plain = browser.get("plain/")
        if not plain.is_acknowledged:
            broken.add(f"a page without a session: {plain.status}")
        if plain.seconds > TIMEOUT / 2:
            late.add(f"a page without a session took {plain.seconds:.2f} s")
        time.sleep(_PAUSE)
    slowest = max(answer.seconds for answer in answers)
    if slowest > TIMEOUT + _LATE:
        late.add(f"a request waited for {slowest:.1f} s")
    following = sorted(answer.seconds for answer in answers if answer not in waited)
    usual = following[len(following) * 95 // 100]
    if usual > AT_ONCE or following[-1] > TIMEOUT / 2:
        late.add(f"following requests took {usual:.3f} s, and up to {following[-1]:.1f} s")
    broken |= {said for answer in answers for said in _wrong(answer)}
    mend()
    back = time.monotonic()
    while not (answer := browser.get("notes/")).is_acknowledged:
        answers.append(answer)
        time.sleep(_PAUSE)
    recovery = answer.ended - back
    if recovery > RECOVERY:
        late.add(f"all was well after {recovery:.1f} s")
    if browser.cookie != cookie or answer.json()["user"] is None:
        broken.add("the session was lost")
    return Row(
        *(fault, name, len(answers), len(answers)),
        slowest=slowest,
        following=usual,
        recovery=recovery,
        acknowledged=2,
        lost=len({1, 2} - set(answer.json()["notes"])),
        broken=tuple(broken),
        late=tuple(late),
    )


def _wrong(answer: Answer) -> Iterator[str]:
    """Yield what is wrong with an answer in an outage."""
    if answer.status != 503:
        yield f"an answer had status {answer.status}"
    elif "retry-after" not in answer.headers or answer.body != b"The site's own page.":
        yield "a 503 was not as it should be"
    if "set-cookie" in answer.headers:
        yield "an error touched the cookie"


def _never_answers(folder: Path, name: str, options: list[str], prefix: str) -> Row:
    """Let all requests of eight browsers meet a server that accepts, and says nothing."""
    with _silent_server() as uri, serving(folder, uri, options, TIMEOUT=TIMEOUT) as site:
        browsers = [Browser(site.port, prefix, "a" * 32) for _ in range(8)]
        with ThreadPoolExecutor(len(browsers)) as pool:
            answers = list(pool.map(lambda browser: browser.get("notes/"), browsers))
    slowest = max(answer.seconds for answer in answers)
    broken = {said for answer in answers for said in _wrong(answer)}
    late = (f"a request waited for {slowest:.1f} s",) if slowest > TIMEOUT + _LATE else ()
    fault, asked = "a server accepts and never answers", len(answers)
    return Row(fault, name, asked, asked, slowest=slowest, broken=tuple(broken), late=late)


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
