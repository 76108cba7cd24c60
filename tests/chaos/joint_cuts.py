"""Cut the connection while one command is under way for several sessions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandListener

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.mongo import coalescing
from django_mongo_sessions.mongo.joint import Find, Insert, Update
from django_mongo_sessions.mongo.runner import Operation
from tests.chaos.proxy import Proxy

_KEYS = [str(number) * 32 for number in range(3)]
_AFTER = {"items": ["a", "b"]}  # what each session has in the end
_WAIT = 60  # seconds
SESSIONS = {"revision": {"$ne": -1}}  # without the markers in the place of others


def _loads() -> list[SessionStore]:
    """Return stores of sessions that are to be read."""
    return _stored(_AFTER)


def _saves() -> list[SessionStore]:
    """Return stores that have read sessions, and changed them."""
    stores = _stored({"items": ["a"]})
    for store in stores:
        store._get_session()["items"].append("b")
    return stores


def _first_saves() -> list[SessionStore]:
    """Return stores of new sessions."""
    stores = [SessionStore() for _ in _KEYS]
    for store in stores:
        store.update(_AFTER)
    return stores


def _stored(data: Mapping[str, Any]) -> list[SessionStore]:
    for key in _KEYS:
        store = SessionStore(key)
        store._session_cache = dict(data)
        store.save(must_create=True)
    return [SessionStore(key) for key in _KEYS]


class Case(NamedTuple):
    """What several sessions need, as one command of a kind."""

    name: str
    kind: type
    begin: Callable[[], list[SessionStore]]
    verb: str
    revision: int  # of each document in the end: how often it was changed


CASES = [
    Case("loads", Find, _loads, "load", 0),
    Case("saves", Update, _saves, "save", 1),
    Case("first saves", Insert, _first_saves, "save", 0),
]


class Sizes(CommandListener):
    """For how many sessions the largest command was."""

    def __init__(self) -> None:
        self.largest = 0

    def started(self, event: Any) -> None:
        """Note how many statements a command has, or how many documents it reads."""
        command = event.command
        wanted = command.get("filter", {}).get("_id")
        ids = wanted.get("$in", ()) if isinstance(wanted, Mapping) else ()
        statements = command.get("updates") or command.get("documents") or ids
        self.largest = max(self.largest, len(statements))

    def succeeded(self, event: Any) -> None:
        """See CommandListener."""

    def failed(self, event: Any) -> None:
        """See CommandListener."""


class JointTrial:
    """What several sessions need at once, made again and again, each time with another cut."""

    def __init__(
        self,
        proxy: Proxy,
        documents: Any,
        case: Case,
        sizes: Sizes,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """With a loop, its tasks need it; without one, threads do."""
        self.proxy, self.documents, self.case, self.sizes = proxy, documents, case, sizes
        self.loop = loop
        self.name = f"a command for {len(_KEYS)} {case.name}"

    def measure(self) -> dict[str, int]:
        """Return how many bytes the command and its reply have."""
        for _ in range(2):  # the first one may open a connection
            stores = self._begin()
            self.proxy.cut(None)
            self._together(stores)
            passed = dict(self.proxy.passed)
        return passed

    def _begin(self) -> list[SessionStore]:
        self.documents.delete_many({})
        stores = self.case.begin()
        self.sizes.largest = 0
        return stores

    def cut(self, direction: str, after: int) -> tuple[list[int], list[str]]:
        """Send the command with a cut; return the status of each session, and what was wrong."""
        stores = self._begin()
        self.proxy.cut(direction, after)
        results = self._together(stores)
        faults = [] if self.proxy.has_cut else ["the connection was not cut"]
        self.proxy.cut(None)
        if self.sizes.largest != len(_KEYS):
            faults.append(f"the largest command was for {self.sizes.largest} sessions")
        for store, result in zip(stores, results, strict=True):
            faults += self._faults(store, result)
        revisions = [document["revision"] for document in self.documents.find(SESSIONS)]
        if revisions != [self.case.revision] * len(_KEYS):
            faults.append(f"the revisions {revisions} are stored")
        return [503 if isinstance(result, Exception) else 200 for result in results], faults

    def _faults(self, store: SessionStore, result: Any) -> list[str]:
        """Return what is wrong with a session, given what its verb has returned or raised."""
        if isinstance(result, PyMongoError):
            getattr(store, self.case.verb)()
        elif isinstance(result, Exception):
            return [f"{type(result).__name__} was raised"]
        elif self.case.kind is Find and result != _AFTER:
            return [f"read was {result}"]
        data = SessionStore(store.session_key).load()
        return [] if data == _AFTER else [f"not what it is in the end: {data}"]

    def _together(self, stores: list[SessionStore]) -> list[Any]:
        """Call the verb of all stores, and return what each returns or raises.

        The queue is held until all of them wait in it. So they go out together.
        """
        if self.loop is None:
            return self._in_threads(stores)
        return self.loop.run_until_complete(self._in_tasks(stores))

    def _in_threads(self, stores: list[SessionStore]) -> list[Any]:
        results: dict[SessionStore, Any] = {}

        def act(store: SessionStore) -> None:
            try:
                results[store] = getattr(store, self.case.verb)()
            except Exception as error:
                results[store] = error

        queue = self._queue(coalescing.ThreadQueue, clients.collection())
        with queue.lock:
            turn = queue._begin()
        threads = [threading.Thread(target=act, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _WAIT
        while len(queue.waiting) < len(stores):
            assert time.monotonic() < deadline, "not all of them wait"
            time.sleep(0.0002)
        queue._end(turn)
        for thread in threads:
            thread.join(_WAIT)
        return [results[store] for store in stores]

    async def _in_tasks(self, stores: list[SessionStore]) -> list[Any]:
        target = await clients.acollection()
        assert target is not None
        queue = self._queue(coalescing.TaskQueue, target)
        turn = queue._begin()
        calls = [getattr(store, f"a{self.case.verb}")() for store in stores]
        together = asyncio.gather(*calls, return_exceptions=True)
        deadline = time.monotonic() + _WAIT
        while len(queue.waiting) < len(stores):
            assert time.monotonic() < deadline, "not all of them wait"
            await asyncio.sleep(0)
        queue._end(turn)
        return await together

    def _queue(self, kind: Any, target: Any) -> Any:
        """Return the queue in which operations of the case wait."""
        joint = self.case.kind.__new__(self.case.kind)
        return coalescing._queue(kind, Operation(len, len, joint=joint), target)
