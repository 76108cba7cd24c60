"""`python -m tests.chaos.clients way path`: a process of random clients.

It prints that it is ready, and reads the time.monotonic() at which the clients stop. They act for
browsers whose cookies are in the file `jar`, beside the path, which all processes share. In the end
it writes a line of JSON for each event to the path. If the way is `stored`, it prints the sessions
that are in the database instead.
"""

from __future__ import annotations

import asyncio
import faulthandler
import fcntl
import json
import os
import random
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import pymongo.common
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.engine import mapping
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.storage import documents
from tests.chaos.history import (
    DELETED,
    FAILED,
    FLUSH,
    MOVE,
    MUTATE,
    OK,
    READ,
    SAVE,
    START,
    UNKNOWN,
    Event,
    Stored,
)
from tests.engine.helpers import outcome

BROWSERS = 6
_TASKS = 3  # of each process, or threads; each makes one request after another
_LONGEST = 100  # tokens, after which a browser begins a new session
_HANGS = 55  # seconds after which a client that has not ended hangs
_RETRY = 20  # seconds for which a client repeats what it must finish
_SESSION, _ITEMS = "session", "items"
_CANCELLED = 0.06  # the share of the awaited operations that are cancelled
_WRONG = 0.05  # the share of the writes that must fail
_ACTS = {READ: 4, MUTATE: 8, "two at once": 2, SAVE: 6, MOVE: 1, FLUSH: 0.3}


class Jar:
    """The cookies of the browsers: the name and the key of the session that each has."""

    _SIZE = 64

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)

    def get(self, browser: int) -> tuple[str, str] | None:
        """Return the name and the key of a browser's session, if it has one."""
        with self._locked():
            record = os.pread(self._file, self._SIZE, browser * self._SIZE).strip(b"\0 ")
        session, _, key = record.decode().partition(" ")
        return (session, key) if key else None

    def put(self, browser: int, session: str, key: str | None) -> None:
        """Give a browser a new key of its session, or a session if it has none.

        If the key is None, the browser loses the session.
        """
        with self._locked():
            place = browser * self._SIZE
            record = os.pread(self._file, self._SIZE, place).strip(b"\0 ").decode()
            if record.partition(" ")[0] in ("", session):
                record = "" if key is None else f"{session} {key}"
                os.pwrite(self._file, record.encode().ljust(self._SIZE), place)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class _RefusedError(Exception):
    """Raised by a function that was passed to mutate(): nothing may be stored."""


class _GoneError(Exception):
    """Raised by such a function if there is no session under the key."""


class Client:
    """Makes requests for browsers, and records their results."""

    def __init__(self, way: str, jar: Jar, until: float) -> None:
        self.way, self.jar, self.until = way, jar, until
        self.is_async = way != "blocking"
        # Before Python 3.12, a cancelled call may release a lock of PyMongo's AsyncMongoClient that
        # another call holds. Later calls then end in RuntimeError, or hang.
        self.may_cancel = way == "threads" or (self.is_async and sys.version_info >= (3, 12))
        self.events: list[Event] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    def work(self) -> None:
        """Make requests, several at a time, until it is time to stop."""
        if not self.is_async:
            self._in_threads()
        elif self.way == "young loops":
            while self._has_time():
                asyncio.run(self._at_once(self._visit))
        else:
            asyncio.run(self._at_once(self._visits))

    def _has_time(self) -> bool:
        return time.monotonic() < self.until

    async def _at_once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop = asyncio.get_running_loop()
        try:
            await asyncio.gather(*(work() for _ in range(_TASKS)))
        except BaseException:
            traceback.print_exc()  # now, since the loop may not end
            raise

    async def _visits(self) -> None:
        while self._has_time():
            await self._visit()

    def _in_threads(self) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._visits().send(None)
            except StopIteration:
                pass
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(_TASKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in failures:
            raise failure

    async def call(self, store: SessionStore, method: str, *args: Any) -> Any:
        """Call a method of a session in its blocking form, or await the other one."""
        if self.is_async:
            return await getattr(store, f"a{method}")(*args)
        return getattr(store, method)(*args)

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts."""
        if self.is_async:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251

    async def impatiently(self, operation: Awaitable[Any]) -> Any:
        """Await an operation, and sometimes cancel it."""
        if self.may_cancel and random.random() < _CANCELLED:
            return await asyncio.wait_for(operation, random.uniform(0, 0.05))
        return await operation

    # Requests

    async def _visit(self) -> None:
        """Make one request."""
        browser = random.randrange(BROWSERS)
        cookie = self.jar.get(browser)
        if cookie is None:
            await self._start(browser)
            return
        request = Request(self, browser, *cookie)
        for _ in range(random.randint(1, 3)):
            [act] = random.choices(list(_ACTS), _ACTS.values())
            if not await request.do(act):
                break

    async def _start(self, browser: int) -> None:
        """Begin an anonymous session, and sign in."""
        session, token = secrets.token_hex(6), self.new_token()
        store, began = SessionStore(), time.monotonic()
        store._session_cache = {_SESSION: session, _ITEMS: [token]}
        is_done = await self.repeat(store, "save")
        if is_done:
            try:
                await self.call(store, "cycle_key")
            except PyMongoError:  # the save below finishes the move
                await self.pause(0.02)
            store._session_cache[SESSION_KEY] = session
            store.modified = True
            is_done = await self.repeat(store, "save")
        self.record(session, START, OK if is_done else UNKNOWN, began, None, token)
        if is_done:
            self.jar.put(browser, session, store.session_key)

    async def repeat(self, store: SessionStore, method: str) -> bool:
        """Call a method until it succeeds; return False if it does not for long.

        Raises UpdateError if the session was deleted.
        """
        ends = time.monotonic() + _RETRY
        while time.monotonic() < ends:
            try:
                await self.call(store, method)
                return True
            except PyMongoError:
                await self.pause(random.uniform(0, 0.1))
        return False

    # What is recorded

    def new_token(self) -> str:
        """Return a token for a write."""
        return secrets.token_hex(6)

    def record(
        self,
        session: str,
        kind: str,
        outcome: str,
        began: float,
        key: str | None,
        token: str | None = None,
        seen: tuple[str, ...] | None = None,
    ) -> None:
        """Record an operation that has just ended."""
        ended = time.monotonic()
        self.events.append(Event(session, kind, outcome, began, ended, key, token, seen))


class Request:
    """A request of a browser that has a session."""

    def __init__(self, client: Client, browser: int, session: str, key: str) -> None:
        self.client, self.browser, self.session = client, browser, session
        self.store = SessionStore(key)

    async def do(self, act: str) -> bool:
        """Do something; return whether the request goes on.

        It ends with the first error, because a later write would store the unsaved changes.
        """
        method = {
            READ: self._read,
            MUTATE: self._mutate,
            "two at once": self._mutate_twice,
            SAVE: self._save,
            MOVE: self._move,
            FLUSH: self._flush,
        }[act]
        is_done = await method()
        if not is_done:
            await self.client.pause(0.005)
        return is_done

    def _record(self, kind: str, outcome: str, began: float, key: str | None, **facts: Any) -> bool:
        self.client.record(self.session, kind, outcome, began, key, **facts)
        return outcome == OK

    async def _read(self, store: SessionStore | None = None) -> bool:
        """Read the session with a new store, or with this request's; return whether it exists."""
        key, began = self.store.session_key, time.monotonic()
        store = store or SessionStore(key)
        is_known = hasattr(store, "_session_cache")
        try:
            data = dict(await self.client.impatiently(self.client.call(store, "items")))
        except (PyMongoError, asyncio.TimeoutError):
            return self._record(READ, UNKNOWN, began, key)
        seen = tokens(data) if data else None
        if not is_known:
            self._record(READ, OK, began, key, seen=seen)
            if seen is not None and len(seen) > _LONGEST:
                self.client.jar.put(self.browser, self.session, None)
        return seen is not None

    async def _outcome(self, operation: Awaitable[Any]) -> str:
        try:
            await self.client.impatiently(operation)
        except UpdateError:
            return DELETED
        except (SessionConflict, _RefusedError, TypeError):
            return FAILED
        except (PyMongoError, asyncio.TimeoutError):
            return UNKNOWN
        return OK

    async def _mutate(self) -> bool:
        token, key, began = self.client.new_token(), self.store.session_key, time.monotonic()
        is_wrong, seen = random.random() < _WRONG, ()

        def append(data: dict[str, Any]) -> None:
            nonlocal seen
            if data.get(_SESSION) != self.session:
                raise _GoneError
            seen = tokens(data)
            data[_ITEMS].append(token)
            if is_wrong:
                raise _RefusedError

        try:
            outcome = await self._outcome(self.client.call(self.store, "mutate", append))
        except _GoneError:
            self._record(READ, OK, began, key)
            return False
        return self._record(
            *(MUTATE, outcome, began, key), token=token, seen=seen if outcome == OK else None
        )

    async def _mutate_twice(self) -> bool:
        """Let two tasks share the session. A blocking client makes one update after the other."""
        if self.client.is_async:
            return all(await asyncio.gather(self._mutate(), self._mutate()))
        return await self._mutate() and await self._mutate()

    async def _save(self) -> bool:
        if not await self._read(self.store):
            return False
        token, key, began = self.client.new_token(), self.store.session_key, time.monotonic()
        self.store[token] = object() if random.random() < _WRONG else 1
        outcome = await self._outcome(self.client.call(self.store, "save"))
        return self._record(SAVE, outcome, began, key, token=token)

    async def _move(self) -> bool:
        """Give the session a new key, as a login does.

        If this is interrupted, a save finishes it. Only then does the browser get the key.
        """
        if not await self._read(self.store):
            return False
        key, began = self.store.session_key, time.monotonic()
        outcome = await self._outcome(self.client.call(self.store, "cycle_key"))
        if outcome == UNKNOWN:
            outcome = await self._finish(key)
            if outcome == OK and self.store.session_key == key:
                outcome = FAILED
        if outcome == OK:
            self.client.jar.put(self.browser, self.session, self.store.session_key)
        elif outcome == UNKNOWN:
            self.client.jar.put(self.browser, self.session, None)
        return self._record(MOVE, outcome, began, key)

    async def _finish(self, key: str | None) -> str:
        """Save the session until it succeeds, and return the outcome."""
        token, began = self.client.new_token(), time.monotonic()
        self.store[token] = 1
        try:
            outcome = OK if await self.client.repeat(self.store, "save") else UNKNOWN
        except UpdateError:
            outcome = DELETED
        self._record(SAVE, outcome, began, key, token=token)
        return outcome

    async def _flush(self) -> bool:
        key, began = self.store.session_key, time.monotonic()
        outcome = await self._outcome(self.client.call(self.store, "flush"))
        if outcome == UNKNOWN and random.random() < 0.7:
            outcome = OK if await self.client.repeat(self.store, "flush") else UNKNOWN
        self._record(FLUSH, outcome, began, key)
        self.client.jar.put(self.browser, self.session, None)
        return False


def tokens(data: dict[str, Any]) -> tuple[str, ...]:
    """Return the tokens of all writes that a session contains: those of mutate() in order."""
    others = data.keys() - {_SESSION, _ITEMS, SESSION_KEY}
    return (*data.get(_ITEMS, ()), *sorted(others))


def stored() -> list[Stored]:
    """Return the sessions that are in the database."""
    found = []
    for document in clients.collection().collection.find():
        if not documents.is_marker(document):
            steps = mapping.opened(SessionStore(), "", document["_id"], document)
            data = outcome(steps).data
            found.append(Stored(data.get(_SESSION, "unreadable"), tokens(data)))
    return found


def _show_if_it_hangs(client: Client) -> None:
    """Show where each task and each thread waits, if they go on for too long, and exit."""
    time.sleep(max(0, client.until + _HANGS - time.monotonic()))
    for task in asyncio.all_tasks(client.loop) if client.loop else ():
        print(f"\n{task.get_name()}:", *_lines(task), sep="\n", file=sys.stderr)
    faulthandler.dump_traceback()
    os._exit(1)


def _lines(task: asyncio.Task[Any]) -> Iterator[str]:
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is None:
            yield f"  {waiting}"
            return
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)


def main(way: str, path: str = "") -> None:
    django.setup()
    if way == "stored":
        print(json.dumps(stored()))
        return
    # Or each cut connection takes half a second, until PyMongo looks for the server again.
    pymongo.common.MIN_HEARTBEAT_INTERVAL = 0.01
    print("ready", flush=True)
    client = Client(way, Jar(Path(path).with_name("jar")), until=float(input()))
    threading.Thread(target=_show_if_it_hangs, args=(client,), daemon=True).start()
    client.work()
    Path(path).write_text("\n".join(json.dumps(event) for event in client.events))


if __name__ == "__main__":
    main(*sys.argv[1:])
