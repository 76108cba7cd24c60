"""Who holds connections to MongoDB. No session code.

One `MongoClient` per process, made at first use, closed at exit, and made anew after a fork. One
`AsyncMongoClient` per event loop, because PyMongo refuses another loop, and by default only for
loops that have lived a while: a client of its own costs a loop more than a thread does. Nothing
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
from django.core.signals import setting_changed
from pymongo import AsyncMongoClient, MongoClient

from django_mongo_sessions import connection
from django_mongo_sessions.conf import conf
from django_mongo_sessions.drivers import Reach

# What keeps the client of a loop, until the loop closes it.
Holder = AsyncGenerator[Reach, None]

# Seconds after which a loop is worth a client of its own, where ASYNC is "auto".
PROMOTION_AGE = 1.0


# Seconds in which a client tells the server that it goes. One that hangs would keep the process.
_GOODBYE = 1.0


class _Clients:
    """What one process holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocking: Reach | None = None
        self.by_loop: dict[asyncio.AbstractEventLoop, tuple[Reach, Holder]] = {}
        self.first_seen: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


_clients = _Clients()
_inherited: list[_Clients] = []


def sessions() -> Reach:
    """Return the collection for blocking calls."""
    if reach := _clients.blocking:
        return reach
    with _clients.lock:
        if _clients.blocking is None:
            _clients.blocking = connection.reach(MongoClient)
        return _clients.blocking


async def asessions() -> Reach | None:
    """Return the collection for the running loop; None where threads serve it better."""
    loop = asyncio.get_running_loop()
    if held := _clients.by_loop.get(loop):
        return held[0]
    if not connection.has_async() or not _is_worth_a_client(loop):
        return None
    for other in list(_clients.by_loop):
        if other.is_closed():
            _clients.by_loop.pop(other, None)
    holder = _hold(loop)
    reach = await anext(holder)  # does not suspend, or two tasks would each make a client
    _clients.by_loop[loop] = reach, holder
    return reach


def _is_worth_a_client(loop: asyncio.AbstractEventLoop) -> bool:
    if conf.ASYNC != "auto":
        return conf.ASYNC == "native"
    now = time.monotonic()
    return now - _clients.first_seen.setdefault(loop, now) >= PROMOTION_AGE


async def _hold(loop: asyncio.AbstractEventLoop) -> Holder:
    # Loops close the generators that were begun in them: there, and nowhere else, is a moment at
    # which the client can be closed, since another loop must not do it.
    reach = connection.reach(AsyncMongoClient)
    try:
        yield reach
    finally:
        if reach.ours:
            if _holds(loop, reach):  # or reset() let it go, and the loop goes on
                # Before 4.18, PyMongo's close() begins generators, of which an ending loop warns.
                sys.set_asyncgen_hooks(firstiter=None)
            with pymongo.timeout(_GOODBYE):
                await reach.client.close()
        if _holds(loop, reach):
            _clients.by_loop.pop(loop, None)


def _holds(loop: asyncio.AbstractEventLoop, reach: Reach) -> bool:
    held = _clients.by_loop.get(loop)
    return held is not None and held[0] is reach


def reset(*, setting: str = "MONGO_SESSIONS", **kwargs: Any) -> None:
    """Close this process's clients, which are made anew from the settings as they are then.

    The clients of other loops are let go, and each loop closes its own. Shared clients stay open.
    Call it between tests to begin with an empty mongomock.
    """
    if setting == "MONGO_SESSIONS":
        with _clients.lock:
            reach, _clients.blocking = _clients.blocking, None
            _clients.by_loop.clear()
        if reach is not None and reach.ours:
            with pymongo.timeout(_GOODBYE):
                reach.client.close()


def _forget_inherited() -> None:
    # Closing a parent's client would speak on the parent's sockets, and so might letting it go.
    global _clients
    _inherited.append(_clients)
    _clients = _Clients()


setting_changed.connect(reset)
atexit.register(reset)
# Windows has no such function, as it has no forks; then this makes an idle dict.
getattr(os, "register_at_fork", dict)(after_in_child=_forget_inherited)
