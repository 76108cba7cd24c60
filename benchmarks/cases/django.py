"""The cases of every session engine that has Django's API.

Each method of a case prepares a number of operations, and returns them: functions without
arguments, each on a session of its own. Only the calls of these functions are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from itertools import cycle, islice
from typing import Any

from django.conf import settings

from benchmarks import payloads, site
from benchmarks.cases import TASKS, THREADS, AsyncOperation, Operation
from benchmarks.payloads import next_count

# Number of stored sessions that the cases reuse, in turn, unless they delete them.
_POOL = 600

Ready = Callable[[int], Sequence[Operation]]


class DjangoCases:
    """The cases of one engine, with sessions of one size at a time."""

    def __init__(self) -> None:
        self.store: Any = import_module(settings.SESSION_ENGINE).SessionStore
        self.keys: Iterator[str] = iter(())
        self.size = 0
        self.cases: dict[str, Ready] = {
            "load": self.load,
            "save": self.save,
            "load-change-save": self.load_change_save,
            "first save": self.first_save,
            "login": self.login,
            "logout": self.logout,
            "unchanged save": self.unchanged_save,
            "WSGI request": self.wsgi_request,
            "ASGI request": self.asgi_request,
            **dict.fromkeys(TASKS, self.aload_change_save),
            **dict.fromkeys(THREADS, self.load_change_save),
        }

    def prepare(self, case: str, size: int) -> Ready:
        """Store sessions of `size` bytes of JSON, and return the method of the case."""
        if size != self.size:
            self.size = size
            self.keys = cycle([self._stored().session_key for _ in range(_POOL)])
        return self.cases[case]

    def close(self) -> None:
        """Close what the cases opened. Engines close their own connections at exit."""

    # One session

    def load(self, number: int) -> list[Operation]:
        """Read a session: `SessionStore(key).load()`."""
        return [self.store(key).load for key in self._next(number)]

    def save(self, number: int) -> list[Operation]:
        """Save a session that was read and changed before."""
        return [self._changed(key).save for key in self._next(number)]

    def load_change_save(self, number: int) -> list[Operation]:
        """Read a session, change a value, and save it."""
        return [partial(load_change_save, self.store, key) for key in self._next(number)]

    def first_save(self, number: int) -> list[Operation]:
        """Save a new session, which has no key yet."""
        return [self._new().save for _ in range(number)]

    def login(self, number: int) -> list[Operation]:
        """Sign in with an anonymous session that was read before: `cycle_key()` and `save()`."""
        keys = [self._stored(signed_in=False).session_key for _ in range(number)]
        return [partial(login, self._read(key)) for key in keys]

    def logout(self, number: int) -> list[Operation]:
        """Sign out of a session that was read before: `flush()`."""
        keys = [self._stored().session_key for _ in range(number)]
        return [self._read(key).flush for key in keys]

    def unchanged_save(self, number: int) -> list[Operation]:
        """Save a session that was read before, without a change."""
        return [self._read(key).save for key in self._next(number)]

    # Whole requests, and tasks

    def wsgi_request(self, number: int) -> list[Operation]:
        """Handle a request whose view reads and changes the session."""
        return [partial(site.wsgi, key) for key in self._next(number)]

    def asgi_request(self, number: int) -> list[AsyncOperation]:
        """See wsgi_request()."""
        return [partial(site.asgi, key) for key in self._next(number)]

    def aload_change_save(self, number: int) -> list[AsyncOperation]:
        """See load_change_save()."""
        return [partial(aload_change_save, self.store, key) for key in self._next(number)]

    # Preparing

    def stored_keys(self, number: int) -> list[str]:
        """Return the keys of that many stored sessions, for processes that use them too."""
        return self._next(number)

    def _next(self, number: int) -> list[str]:
        return list(islice(self.keys, number))

    def _new(self, signed_in: bool = True) -> Any:
        store = self.store()
        store.update(payloads.data(self.size, signed_in))
        return store

    def _stored(self, signed_in: bool = True) -> Any:
        store = self._new(signed_in)
        store.save()
        return store

    def _read(self, key: str) -> Any:
        store = self.store(key)
        store["count"]  # reads the session
        return store

    def _changed(self, key: str) -> Any:
        store = self.store(key)
        store["count"] = next_count(store["count"])
        return store


def load_change_save(store: Any, key: str) -> None:
    session = store(key)
    session["count"] = next_count(session["count"])
    session.save()


async def aload_change_save(store: Any, key: str) -> None:
    session = store(key)
    await session.aset("count", next_count(await session.aget("count")))
    await session.asave()


def login(session: Any) -> None:
    session.cycle_key()
    session.update(payloads.SIGNED_IN)
    session.save()
