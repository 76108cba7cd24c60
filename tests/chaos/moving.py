"""Clients under way while the engine of their site is switched, from files to MongoDB.

Each client signs in, and lets the site store one number after another. In the middle of that, the
site's next responses come from the new engine, which adopts the sessions. Some clients sign out,
while the same cookie is used by another request. Afterwards, every cookie that was ever seen is
tried once more.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from unittest.mock import patch

from tests.chaos import replicas
from tests.chaos.browsers import Browser
from tests.chaos.sites import SERVERS, serving
from tests.chaos.table import Row

_CLIENTS, _FEW = 1_000, 60
_VISITS = 6  # of each client, half of them before the switch on average
_AT_ONCE = 16
_FILES = "django.contrib.sessions.backends.file"


class Client:
    """A browser that keeps its session over the switch."""

    def __init__(self, number: int, port: int) -> None:
        self.browser, self.turn = Browser(port), threading.Lock()
        self.leaves = number % 2 == 0
        self.noted: list[int] = []
        self.cookies: set[str] = set()
        self.broken: list[str] = []
        assert self.browser.get("basket/1/").is_acknowledged
        self._remember()
        assert self.browser.get("sign-in/").is_acknowledged
        self._remember()

    def _remember(self) -> None:
        if self.browser.cookie is not None:
            self.cookies.add(self.browser.cookie)

    def note(self, port: int, prefix: str) -> None:
        with self.turn:
            self.browser.port, self.browser.prefix = port, prefix
            number = len(self.noted)
            response = self.browser.get(f"note/{number}/")
            if response.is_acknowledged:
                self.noted.append(number)
            else:
                self.broken.append(f"note/ returned status {response.status}")
            self._remember()

    def leave(self, port: int, prefix: str) -> None:
        """Sign out, while two other requests use the session."""
        others = [Browser(port, prefix, self.browser.cookie) for _ in range(2)]
        threads = [threading.Thread(target=other.get, args=("notes/",)) for other in others]
        self.browser.port, self.browser.prefix = port, prefix
        for thread in threads:
            thread.start()
        if not self.browser.get("sign-out/").is_acknowledged:
            self.broken.append("a sign-out failed")
        for thread in threads:
            thread.join()


def run(quick: bool) -> Iterator[Row]:
    """Switch the engine, and yield a row for each kind of server that comes after it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with replicas.standalone(folder) as server:
            for kind in SERVERS:
                yield _switched(folder, server.uri, kind, _FEW if quick else _CLIENTS)


def _switched(folder: Path, uri: str, kind: str, count: int) -> Row:
    old_sessions = folder / f"files for {kind}"
    old_sessions.mkdir()
    until = (date.today() + timedelta(days=30)).isoformat()
    options, prefix = SERVERS[kind]
    keys = {"PREDECESSOR": _FILES, "PREDECESSOR_UNTIL": until}
    # Where Django's engine keeps its files if SESSION_FILE_PATH is not set.
    with (
        patch.dict(os.environ, {"TMPDIR": str(old_sessions)}),
        serving(folder, uri, SERVERS["gunicorn"][0], engine=_FILES) as before,
        serving(folder, uri, options, **keys) as after,
    ):
        return _visited(before.port, after.port, prefix, kind, count)


def _visited(before: int, after: int, prefix: str, kind: str, count: int) -> Row:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        clients = list(pool.map(lambda number: Client(number, before), range(count)))
        visits = clients * _VISITS
        random.Random(7).shuffle(visits)
        middle = len(visits) // 2

        def visit(index: int) -> None:
            where = (before, "/") if index < middle else (after, prefix)
            visits[index].note(*where)

        list(pool.map(visit, range(len(visits))))
        leaving = [client for client in clients if client.leaves]
        staying = [client for client in clients if not client.leaves]
        list(pool.map(lambda client: client.leave(after, prefix), leaving))

        def shown(cookie: str | None) -> dict[str, object]:
            found: dict[str, object] = Browser(after, prefix, cookie).get("notes/").json()
            return found

        came_back = sum(
            found["user"] is not None
            for found in pool.map(shown, [each for one in leaving for each in one.cookies])
        )
        kept = list(pool.map(shown, [client.browser.cookie for client in staying]))
    signed_out = sum(found["user"] is None for found in kept)
    lost = sum(found["notes"] != client.noted for found, client in zip(kept, staying, strict=True))
    broken = [
        *([f"{signed_out} were signed out"] if signed_out else []),
        *([f"{came_back} sessions came back after their sign-out"] if came_back else []),
        *{fault for client in clients for fault in client.broken},
    ]
    return Row(
        f"the engine is switched from files, {count:,} clients",
        kind,
        requests=len(visits),
        errors=sum(len(client.broken) for client in clients),
        acknowledged=sum(len(client.noted) for client in clients),
        lost=lost,
        broken=tuple(broken),
    )
