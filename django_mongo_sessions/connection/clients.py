"""The clients, which hold the connections to MongoDB.

One `MongoClient` per process, made at first use, closed at exit, and made anew after a fork. One
`AsyncMongoClient` per event loop, because PyMongo does not let loops share one. By default only a
loop that has run for a while gets one: for a short loop a client costs more than a thread. Nothing
connects at import.

A client that the site shares is made by the site's code, which may take its time, use a session
itself, fork, or switch to another greenlet. So no lock is held while it runs: threads that come at
once each make a client, and the first one is used by all.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any
from weakref import WeakKeyDictionary

import pymongo
from asgiref.sync import sync_to_async
from django.core.signals import setting_changed
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import InvalidOperation

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import testruns
from django_mongo_sessions.connection.breaker import FactoryBreaker, Gate
from django_mongo_sessions.connection.collection import (
    ClientClass,
    SessionCollection,
    has_async,
    make_collection,
)
from django_mongo_sessions.connection.srv import dns_outage

# Keeps the client of a loop until the loop closes it.
Holder = AsyncGenerator[SessionCollection, None]

# Age in seconds from which a loop gets a client of its own, if ASYNC is "auto".
PROMOTION_AGE = 1.0

# Time limit in seconds for closing a client, so that a hung server cannot keep the process from
# exiting.
_CLOSE_TIMEOUT = 1.0


class _Clients:
    """The clients of one process."""

    def __init__(self) -> None:
        # Held for assignments alone. A finalizer or a signal handler that interrupts one may use a
        # session, so the same thread may acquire it again.
        self.lock = threading.RLock()
        self.blocking: SessionCollection | None = None
        self.by_loop: dict[asyncio.AbstractEventLoop, tuple[SessionCollection, Holder]] = {}
        self.first_seen: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()
        self.forget_failures()
        self.follow_test_run()

    def follow_test_run(self) -> None:
        self.are_for_tests = testruns.environment() is not None

    def forget_failures(self) -> None:
        self.factory = FactoryBreaker()  # for the client of blocking calls
        self.factories: WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = WeakKeyDictionary()

    def publish(
        self, made: SessionCollection, replaced: SessionCollection | None, factory: Gate
    ) -> bool:
        """Let all threads use a new collection; return whether that was done.

        `replaced` and `factory` are the collection and the breaker from when making it began. If
        another thread has published one since, or reset() was called, nothing is done.
        """
        with self.lock:
            if self.blocking is not replaced or self.factory is not factory:
                return False
            self.blocking = made
            return True


_clients = _Clients()
_inherited: list[_Clients] = []


def collection() -> SessionCollection:
    """Return the collection for blocking calls.

    Raises ImproperlyConfigured if the settings are wrong, and whatever the factory of a shared
    client raises. Within a second of such an error, it raises one like it.
    """
    return _current().blocking or _open(None)


def _current() -> _Clients:
    """Return this process's clients, without any from before a test run began, or ended."""
    if _clients.are_for_tests is (testruns.environment() is None):
        reset()
    return _clients


def _open(closed: SessionCollection | None) -> SessionCollection:
    """Return the collection for blocking calls, but not the closed one. See `collection()`."""
    while True:
        current = _clients
        factory, found = current.factory, current.blocking
        if found is not None and found is not closed:
            return found
        made = _make(MongoClient, factory, closed, _open)
        if current.publish(made, found, factory):
            return made
        _close(made)


async def collection_for_threads() -> SessionCollection:
    """Return the collection for blocking calls, without blocking the running loop.

    The site's code gets a thread of its own, and not the one for which all others may have to wait.
    """
    return _current().blocking or await sync_to_async(collection, thread_sensitive=False)()


async def acollection() -> SessionCollection | None:
    """Return the collection for the running loop; None if threads serve it better.

    Raises what `collection()` raises.
    """
    loop = asyncio.get_running_loop()
    if held := _current().by_loop.get(loop):
        return held[0]
    if not has_async() or not _deserves_a_client(loop):
        return None
    for other in list(_clients.by_loop):
        if other.is_closed():
            _clients.by_loop.pop(other, None)
    return await _aopen(None)


async def _aopen(closed: SessionCollection | None) -> SessionCollection:
    """Return the collection for the running loop, but not the closed one."""
    loop = asyncio.get_running_loop()
    while True:
        current = _clients
        held = current.by_loop.get(loop)
        if held is not None and held[0] is not closed:
            return held[0]
        factory = current.factories.setdefault(loop, FactoryBreaker())
        holder = _hold(loop, factory, closed)
        made = await anext(holder)  # does not suspend, or two tasks would each make a client
        if current.factories.get(loop) is factory:
            current.by_loop[loop] = made, holder
            return made
        await holder.aclose()  # reset() was called in between


def _make(
    kind: ClientClass,
    factory: Gate,
    closed: SessionCollection | None,
    reopen: Callable[[SessionCollection], Any],
) -> SessionCollection:
    """Make the collection, in place of the closed one if there is one."""
    began = time.monotonic()
    factory.enter(began)
    try:
        made = make_collection(kind)
    except Exception as error:
        outage = dns_outage(error)  # of a shared client that connects when it is made
        factory.leave(began, outage or error)
        if outage is None:
            raise
        raise outage from None
    factory.leave(began)
    if closed is not None and made.client is closed.client:
        raise InvalidOperation(
            "The site has closed the client that it shares, and the callable in MONGO_SESSIONS "
            f"still returns it. After {kind.__name__}.close(), let that return a new client."
        )
    return made if made.owned else made._replace(reopen=reopen)


def _deserves_a_client(loop: asyncio.AbstractEventLoop) -> bool:
    if conf.ASYNC != "auto":
        return conf.ASYNC == "native"
    blocking = _clients.blocking
    if blocking is not None and blocking.gate.outage is not None:
        return False  # a client of its own would have to find out anew that MongoDB is down
    now = time.monotonic()
    return now - _clients.first_seen.setdefault(loop, now) >= PROMOTION_AGE


async def _hold(
    loop: asyncio.AbstractEventLoop, factory: Gate, closed: SessionCollection | None
) -> Holder:
    # A loop closes the asynchronous generators that were started in it. That is the only moment at
    # which the client can be closed, since another loop must not do it.
    held = _make(AsyncMongoClient, factory, closed, _aopen)
    try:
        yield held
    finally:
        if held.owned:
            if _holds(loop, held):  # else reset() dropped it, and the loop goes on
                # Before 4.18, PyMongo's close() starts generators, of which an ending loop warns.
                sys.set_asyncgen_hooks(firstiter=None)
            with pymongo.timeout(_CLOSE_TIMEOUT):
                await held.client.close()
        if _holds(loop, held):
            _clients.by_loop.pop(loop, None)


def _holds(loop: asyncio.AbstractEventLoop, wanted: SessionCollection) -> bool:
    held = _clients.by_loop.get(loop)
    return held is not None and held[0] is wanted


def reset() -> None:
    """Close this process's client, and let each loop close its own. Shared clients stay open.

    The next use makes new ones from the settings as they are then.
    """
    with _clients.lock:
        found, _clients.blocking = _clients.blocking, None
        _clients.forget_failures()
        _clients.follow_test_run()
    _clients.by_loop.clear()
    if found is not None:
        _close(found)


def _close(unused: SessionCollection) -> None:
    if unused.owned:
        with pymongo.timeout(_CLOSE_TIMEOUT):
            unused.client.close()


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "MONGO_SESSIONS":
        reset()


def _forget_inherited() -> None:
    # Closing the parent's client would write to the parent's sockets, and so might collecting it.
    global _clients
    _inherited.append(_clients)
    _clients = _Clients()


setting_changed.connect(_on_setting_changed)
atexit.register(reset)
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_inherited)
