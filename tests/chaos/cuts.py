"""Cut the connection to MongoDB after the n-th byte, for every n, in both directions.

The server is a single mongod, since PyMongo does not repeat a write on it. One connection is cut,
once. Afterwards the server can be reached again.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import django
import pymongo.common
from pymongo import MongoClient, monitoring

from tests.chaos import joint_cuts, replicas
from tests.chaos.joint_cuts import SESSIONS, JointTrial, Sizes
from tests.chaos.proxy import Proxy
from tests.chaos.sites import environment
from tests.chaos.table import Row

_KEY = "a1" * 16
_COOKIE = "sessionid"
_BASKET = {"basket": 1}
_SIGNED_IN = {"_auth_user_id": "7"}
_QUICK_STEP = 41


class Case(NamedTuple):
    """A request, and the session that is stored before and after it; None for no session."""

    name: str
    path: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


CASES = [
    Case("a first save", "basket/1/", None, _BASKET),
    Case("a save", "basket/2/", _BASKET, {"basket": 2}),
    Case("a login", "sign-in/", _BASKET, {**_BASKET, **_SIGNED_IN}),
    Case("a logout", "sign-out/", {**_BASKET, **_SIGNED_IN}, None),
]


def run(quick: bool) -> Iterator[Row]:
    """Cut, and yield a row for each request, and for each joint command, sync and async."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        server = stack.enter_context(replicas.standalone(folder))
        proxy = stack.enter_context(closing(Proxy(server.members[0].port)))
        direct = stack.enter_context(MongoClient(server.uri))
        sizes = _set_up(proxy.port)
        yield from _cutting(proxy, direct.chaos.sessions, sizes, _QUICK_STEP if quick else 1)


def _set_up(port: int) -> Sizes:
    """Prepare the engine on this port; return what notes the sizes of its commands."""
    options = {"serverMonitoringMode": "poll"}
    os.environ.update(
        environment(f"mongodb://127.0.0.1:{port}", ASYNC="native", CLIENT_OPTIONS=options)
    )
    django.setup()
    # Else PyMongo waits half a second after each cut, before it looks for the server again.
    pymongo.common.MIN_HEARTBEAT_INTERVAL = 0.005
    sizes = Sizes()
    monitoring.register(sizes)  # for the clients that are made from here on
    return sizes


def _cutting(proxy: Proxy, documents: Any, sizes: Sizes, step: int) -> Iterator[Row]:
    from django.test import AsyncClient, Client

    loop = asyncio.new_event_loop()

    def blocking(path: str, cookie: str | None) -> Any:
        client = Client(raise_request_exception=False)
        return _request(client, client.get, path, cookie)

    def awaiting(path: str, cookie: str | None) -> Any:
        client = AsyncClient(raise_request_exception=False)

        def get(path: str) -> Any:
            return loop.run_until_complete(client.get(path))

        return _request(client, get, f"async/{path}", cookie)

    for form, get, its_loop in (("blocking", blocking, None), ("async", awaiting, loop)):
        alone = [Trial(proxy, documents, case, get) for case in CASES]
        joint = [JointTrial(proxy, documents, case, sizes, its_loop) for case in joint_cuts.CASES]
        for trial in [*alone, *joint]:
            passed = trial.measure()
            cuts = [
                (direction, number)
                for direction, size in passed.items()
                for number in range(0, size + 1, step)
            ]
            yield _row(trial, form, cuts)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _request(client: Any, get: Callable[[str], Any], path: str, cookie: str | None) -> Any:
    """Return the status of the response, and the cookie that the browser then has."""
    if cookie:
        client.cookies[_COOKIE] = cookie
    status = get(f"/{path}").status_code
    morsel = client.cookies.get(_COOKIE)
    return status, (morsel.value or None) if morsel else None


def _row(trial: Trial | JointTrial, form: str, cuts: list[tuple[str, int]]) -> Row:
    broken: list[str] = []
    statuses: list[int] = []
    slowest, lost = 0.0, 0
    for direction, number in cuts:
        began = time.monotonic()
        given, faults = trial.cut(direction, number)
        slowest = max(slowest, time.monotonic() - began)
        statuses += given
        lost += bool(faults)
        broken += [f"byte {number} {direction}: {fault}" for fault in faults]
    done = statuses.count(200)
    return Row(
        *(f"the connection is cut at each byte of {trial.name}", form, len(statuses)),
        errors=len(statuses) - done,
        slowest=slowest,
        acknowledged=done,
        lost=lost,
        broken=tuple(broken[:3]),
    )


class Trial:
    """One request, made again and again, each time with another cut."""

    def __init__(
        self, proxy: Proxy, documents: Any, case: Case, get: Callable[[str, str | None], Any]
    ) -> None:
        self.proxy, self.documents, self.case, self.get = proxy, documents, case, get
        self.name = case.name
        self.document = self._stored(case.before)

    def _stored(self, data: Mapping[str, Any] | None) -> Any:
        """Return the document of a session with these data."""
        from django_mongo_sessions.backends.mongodb import SessionStore

        self.documents.delete_many({})
        if data is None:
            return None
        store = SessionStore(_KEY)
        store._session_cache = dict(data)
        store.save(must_create=True)
        return self.documents.find_one()

    def _begin(self) -> str | None:
        self.documents.delete_many({})
        if self.document is None:
            return None
        self.documents.insert_one(self.document)
        return _KEY

    def measure(self) -> dict[str, int]:
        """Return how many bytes the request sends in each direction."""
        for _ in range(2):  # the first one may open a connection, and create the index
            cookie = self._begin()
            self.proxy.cut(None)
            status, _ = self.get(self.case.path, cookie)
            assert status == 200, status
        return dict(self.proxy.passed)

    def cut(self, direction: str, after: int) -> tuple[list[int], list[str]]:
        """Make the request with a cut; return its status, and what was wrong."""
        before = self._begin()
        self.proxy.cut(direction, after)
        status, cookie = self.get(self.case.path, before)
        faults = [] if self.proxy.has_cut else ["the connection was not cut"]
        self.proxy.cut(None)
        if status != 200:
            if status != 503:
                faults.append(f"status {status}")
            if cookie != before:
                faults.append("an error changed the cookie")
            if self._data(cookie) not in (self.case.before, self.case.after):
                faults.append(f"neither the old session nor the new: {self._data(cookie)}")
            again, cookie = self.get(self.case.path, cookie)
            if again != 200:
                faults.append(f"the browser's retry had status {again}")
        if self._data(cookie) != self.case.after:
            faults.append(f"not the new session: {self._data(cookie)}")
        there = self.documents.count_documents(SESSIONS)
        if there != (self.case.after is not None):
            faults.append(f"{there} sessions are stored")
        if self.case.after is None and self._data(before) is not None:
            faults.append("the old key still opens a session")
        return [status], faults

    @staticmethod
    def _data(cookie: str | None) -> Mapping[str, Any] | None:
        from django_mongo_sessions.backends.mongodb import SessionStore

        store = SessionStore(cookie)
        data = store.load()
        return data if store.session_key else None
