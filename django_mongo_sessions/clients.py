"""Who holds connections to MongoDB. No session code.

One `MongoClient` per process, made at first use, closed at exit, and made anew after a fork. One
`AsyncMongoClient` per event loop, because PyMongo refuses another loop, and only for loops that
have lived a while: a client of its own costs a loop more than a thread does. Nothing connects at
import.
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
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

from bson.codec_options import CodecOptions, DatetimeConversion
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, WriteConcern
from pymongo.driver_info import DriverInfo
from pymongo.read_concern import ReadConcern

from django_mongo_sessions import __version__
from django_mongo_sessions.conf import conf

# A collection of sessions, and the seconds that one operation on it may take; None where the
# client has a `timeoutMS` of its own.
Reach = tuple[Any, float | None]
# What keeps the client of a loop, until the loop closes it.
Holder = AsyncGenerator[Reach, None]

# Seconds after which a loop is worth a client of its own.
PROMOTION_AGE = 1.0

_DISTRIBUTION = "django-mongodb-sessions"
_DEFAULTS = {
    "appname": _DISTRIBUTION,
    "connectTimeoutMS": 3000,
    "serverSelectionTimeoutMS": 3000,
    "tz_aware": True,
}
_CODEC_OPTIONS = {
    "document_class": dict,
    "tz_aware": True,
    # What does not fit Python's types arrives as something else, and so is seen to be wrong,
    # instead of failing in the driver.
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    "unicode_decode_error_handler": "replace",
}


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
            client = _mock() if _is_mock() else _connect(MongoClient)
            try:
                _clients.blocking = _reach(client)
            except ImproperlyConfigured:
                client.close()
                raise
        return _clients.blocking


async def asessions() -> Reach | None:
    """Return the collection for the running loop; None where threads serve it better."""
    loop = asyncio.get_running_loop()
    if held := _clients.by_loop.get(loop):
        return held[0]
    now = time.monotonic()
    if now - _clients.first_seen.setdefault(loop, now) < PROMOTION_AGE or _is_mock():
        return None
    for other in list(_clients.by_loop):
        if other.is_closed():
            _clients.by_loop.pop(other, None)
    holder = _hold(loop)
    reach = await anext(holder)  # does not suspend, or two tasks would each make a client
    _clients.by_loop[loop] = reach, holder
    return reach


async def _hold(loop: asyncio.AbstractEventLoop) -> Holder:
    # Loops close the generators that were begun in them: there, and nowhere else, is a moment at
    # which the client can be closed, since another loop must not do it.
    client: AsyncMongoClient[dict[str, Any]] = _connect(AsyncMongoClient)
    try:
        yield _reach(client)
    finally:
        if _holds(loop, client):  # or reset() let it go, and the loop goes on
            # Before 4.18, PyMongo's close() begins generators, of which an ending loop warns.
            sys.set_asyncgen_hooks(firstiter=None)
        await client.close()
        if _holds(loop, client):
            _clients.by_loop.pop(loop, None)


def _holds(loop: asyncio.AbstractEventLoop, client: Any) -> bool:
    held = _clients.by_loop.get(loop)
    return held is not None and held[0][0].database.client is client


def reset(*, setting: str = "MONGO_SESSIONS", **kwargs: Any) -> None:
    """Close this process's clients, which are made anew from the settings as they are then.

    The clients of other loops are let go, and each loop closes its own.
    """
    if setting == "MONGO_SESSIONS":
        with _clients.lock:
            reach, _clients.blocking = _clients.blocking, None
            _clients.by_loop.clear()
        if reach is not None:
            reach[0].database.client.close()


def _forget_inherited() -> None:
    # Closing a parent's client would speak on the parent's sockets, and so might letting it go.
    global _clients
    _inherited.append(_clients)
    _clients = _Clients()


# Making clients


def _connect(factory: Callable[..., Any]) -> Any:
    """Make a client; our defaults give way to the URI's options and to CLIENT_OPTIONS."""
    query = conf.URI.partition("?")[2].replace(";", "&")
    named = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    named.update(name.lower() for name in conf.CLIENT_OPTIONS)
    options = {name: value for name, value in _DEFAULTS.items() if name.lower() not in named}
    options["driver"] = DriverInfo(_DISTRIBUTION, __version__)
    return factory(conf.URI, **{**options, **conf.CLIENT_OPTIONS})


def _is_mock() -> bool:
    return conf.URI.startswith("mongomock://")


def _mock() -> Any:
    try:
        import mongomock
    except ImportError as error:
        raise ImproperlyConfigured(
            "MONGO_SESSIONS['URI'] is mongomock://, and mongomock is not installed. "
            "Install it with: python -m pip install mongomock"
        ) from error
    return mongomock.MongoClient()


def _reach(client: Any) -> Reach:
    """Return the collection of sessions as every verb needs it, and its deadline."""
    if _is_mock():
        database = client[conf.DATABASE or urlsplit(conf.URI).path.strip("/") or "django"]
        return database[conf.COLLECTION].with_options(CodecOptions(tz_aware=True)), None
    if conf.DATABASE is None:
        database = client.get_default_database("django")
    else:
        database = client[conf.DATABASE]
    concern = client.write_concern.document
    if concern.get("w") == 0:
        raise ImproperlyConfigured(
            "MONGO_SESSIONS: the client's write concern is w=0, so that lost writes and sign-outs "
            "would go unnoticed. Remove w=0 from the URI or CLIENT_OPTIONS."
        )
    collection = database.get_collection(
        conf.COLLECTION,
        codec_options=client.codec_options.with_options(**_CODEC_OPTIONS),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=WriteConcern(**{"w": "majority", **concern}),
    )
    return collection, None if client.options.timeout is not None else conf.TIMEOUT


setting_changed.connect(reset)
atexit.register(reset)
# Windows has no such function, as it has no forks; then this makes an idle dict.
getattr(os, "register_at_fork", dict)(after_in_child=_forget_inherited)
