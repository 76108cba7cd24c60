"""Who holds connections to MongoDB.

One `MongoClient` per process, made at first use, closed at exit, and made anew after a fork. One
`AsyncMongoClient` per event loop, because PyMongo does not let loops share one. By default only a
loop that has run for a while gets one: for a short loop a client costs more than a thread. Nothing
connects at import.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any
from weakref import WeakKeyDictionary

import pymongo
from asgiref.sync import sync_to_async
from django.core.signals import setting_changed
from pymongo import AsyncMongoClient, MongoClient

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection.collection import (
    SessionCollection,
    has_async,
    make_collection,
)

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
        self.lock = threading.Lock()
        self.blocking: SessionCollection | None = None
        self.by_loop: dict[asyncio.AbstractEventLoop, tuple[SessionCollection, Holder]] = {}
        self.first_seen: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


_clients = _Clients()
_inherited: list[_Clients] = []


def collection() -> SessionCollection:
    """Return the collection for blocking calls."""
    if found := _clients.blocking:
        return found
    with _clients.lock:
        if _clients.blocking is None:
            _clients.blocking = make_collection(MongoClient)
        return _clients.blocking


async def collection_for_threads() -> SessionCollection:
    """Return the collection for blocking calls, without blocking the running loop."""
    return _clients.blocking or await sync_to_async(collection)()


async def acollection() -> SessionCollection | None:
    """Return the collection for the running loop; None if threads serve it better."""
    loop = asyncio.get_running_loop()
    if held := _clients.by_loop.get(loop):
        return held[0]
    if not has_async() or not _deserves_a_client(loop):
        return None
    for other in list(_clients.by_loop):
        if other.is_closed():
            _clients.by_loop.pop(other, None)
    holder = _hold(loop)
    found = await anext(holder)  # does not suspend, or two tasks would each make a client
    _clients.by_loop[loop] = found, holder
    return found


def _deserves_a_client(loop: asyncio.AbstractEventLoop) -> bool:
    if conf.ASYNC != "auto":
        return conf.ASYNC == "native"
    now = time.monotonic()
    return now - _clients.first_seen.setdefault(loop, now) >= PROMOTION_AGE


async def _hold(loop: asyncio.AbstractEventLoop) -> Holder:
    # A loop closes the asynchronous generators that were started in it. That is the only moment at
    # which the client can be closed, since another loop must not do it.
    held = make_collection(AsyncMongoClient)
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
        _clients.by_loop.clear()
    if found is not None and found.owned:
        with pymongo.timeout(_CLOSE_TIMEOUT):
            found.client.close()


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
