"""What the engine that a site had before says of one session: its data, and its end, exactly.

No other module knows the insides of other engines. All of this does I/O. The steps of `adopting.py`
yield it as `Elsewhere`, and never call it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import SessionBase
from django.core import signing
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.utils import timezone as django_timezone

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection.breaker import PredecessorBreaker
from django_mongo_sessions.engine.overriding import is_blocking_alone
from django_mongo_sessions.storage import dates, documents

ROWS = "rows"  # a table or collection of sessions with the field `expire_date`
CACHE = "cache"
FILE = "file"
COOKIES = "cookies"
OTHER = "other"

MAX_COOKIE = 4096  # characters
_COOKIE = re.compile(r"[\w.-]+:[0-9A-Za-z]+:[\w-]+", re.ASCII)
_KEY_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_KEY_LENGTH = 32
_KEY_PREFIX = b"adopted from a cookie\0"  # part of the ids of stored sessions
_MISSING = -2  # what Redis says of the time to live of a key that does not exist


class OldSession(NamedTuple):
    """A session of the old engine."""

    data: dict[str, Any]
    ends: datetime
    began: datetime  # when it was last saved, as far as its end tells
    is_exact: bool = True  # False: the engine does not tell its end, so it may be later than it was
    store: Any = None  # the old engine's store, with the row in `row` if there is one
    row: Any = None


class OldEngine:
    """The store class of another engine, and which of the known kinds it is."""

    def __init__(self, store: type[SessionBase]) -> None:
        self.store = store
        self.kind = kind(store)
        self.gate = PredecessorBreaker()

    def has_such(self, name: str) -> bool:
        """Return whether the engine may have a session of this key, or of this signed cookie."""
        return self.kind != COOKIES or is_cookie(name)

    def read(self, name: str) -> OldSession | None:
        """Return a session by its key, or by its signed cookie; None if there is none.

        Raises whatever the engine raises.
        """
        try:
            store, clue = self._open(name)
            return None if clue is None else self.session(store, store.load(), clue)
        except SuspiciousOperation:  # not a key of its own
            return None

    async def aread(self, name: str) -> OldSession | None:
        """See read(). The engine's own asynchronous methods are used, if it has them."""
        try:
            store, clue = await sync_to_async(self._open)(name)
            if clue is None:
                return None
            if is_blocking_alone(store, "load", "aload"):
                data = await sync_to_async(store.load)()
            else:
                data = await store.aload()
            return await sync_to_async(self.session)(store, data, clue)
        except SuspiciousOperation:
            return None

    def delete(self, name: str) -> None:
        """Delete a session by its key. Raises as read() does."""
        with suppress(SuspiciousOperation):
            self.store(name).delete(name)

    async def adelete(self, name: str) -> None:
        """See delete()."""
        store = self.store(name)
        if is_blocking_alone(store, "delete", "adelete"):
            await sync_to_async(self.delete)(name)
            return
        with suppress(SuspiciousOperation):
            await store.adelete(name)

    def _open(self, name: str) -> tuple[Any, Any]:
        """Return a store for a session, and what tells its end; None if there is no session."""
        store = self.store(name)
        return store, _CLUES[self.kind](store, name)

    def session(self, store: Any, data: dict[str, Any], clue: Any) -> OldSession | None:
        """Return a session that was loaded; None if it was empty, unreadable, or has ended.

        The clue to its end is the row, the date of a file's last change, the date of a cookie, or
        the date on which an entry of a cache ends. It is True if there is none.
        """
        if not data:
            return None
        age, now = store.get_session_cookie_age(), dates.utc_now()
        expiry = data.get("_session_expiry")
        seconds = expiry if isinstance(expiry, int) and expiry else age
        if self.kind in (FILE, COOKIES):
            ends = _end(store, clue, expiry)
            if self.kind == COOKIES:
                ends = min(ends, dates.add_seconds(clue, age))
        elif clue is True:
            ends = _whole(dates.utc(store.get_expiry_date(expiry=expiry)))
        else:
            ends = _whole(row_end(clue) if self.kind == ROWS else clue)
        if ends <= now:
            return None
        try:
            began = min(ends - timedelta(seconds=seconds), now)
        except OverflowError:
            began = now
        row = clue if self.kind == ROWS else None
        return OldSession(data, ends, began, clue is not True, store, row)


def kind(store: type[SessionBase]) -> str:
    """Return the kind of an engine, by its class."""
    bases = {base.__module__ for base in store.__mro__}
    if model(store) is not None:
        return ROWS
    for path, name in (("cache", CACHE), ("file", FILE), ("signed_cookies", COOKIES)):
        if f"django.contrib.sessions.backends.{path}" in bases:
            return name
    return OTHER


def model(store: type[SessionBase]) -> Any:
    """Return the model of an engine, or the Document of MongoEngine's; None if it has none.

    Django's `db` names it, and so does what derives from it. django-user-sessions and
    django-mongoengine have it in their module.
    """
    if hasattr(store, "get_model_class"):
        return store.get_model_class()
    module = import_module(store.__module__)
    for name in ("Session", "MongoSession"):
        found = getattr(module, name, None)
        if found is not None and hasattr(found, "expire_date") and hasattr(found, "session_data"):
            return found
    return None


def _row(store: Any, name: str) -> Any:
    """Return the row of a session; None if there is none, or if it has ended.

    It is looked for before load() is called, since some engines make a new row if there is none,
    and since `cached_db` may still have it in its cache.
    """
    row = model(type(store)).objects.filter(session_key=name).first()
    # Some databases ignore case. The same session must not be adopted under several keys.
    if row is None or row.session_key != name or row_end(row) <= dates.utc_now():
        return None
    return row


def row_end(row: Any) -> datetime:
    """Return when the session of a row ends, as aware UTC."""
    date: datetime = row.expire_date
    if date.tzinfo is None and isinstance(row._meta, dict):  # MongoEngine's
        # It reads dates without a zone. They are in UTC, as they were stored, except without
        # USE_TZ: then they were stored without a zone, and are in TIME_ZONE.
        date = date.replace(tzinfo=django_timezone.now().tzinfo)
    return dates.utc(date)


def _entry_end(store: Any, name: str) -> Any:
    """Return when an entry of a cache ends; True if the cache does not tell; None if it is gone."""
    sessions = store._cache
    key = store.cache_key_prefix + name
    made = sessions.make_key(key)
    if hasattr(sessions, "pttl"):  # django-redis
        milliseconds = sessions.pttl(key)
        return True if milliseconds is None else end_in(milliseconds or _MISSING)
    if hasattr(sessions, "_expire_info"):  # LocMemCache
        ends = sessions._expire_info.get(made, 0.0)
        return dates.LATEST if ends is None else datetime.fromtimestamp(ends, timezone.utc)
    client: Any = getattr(sessions, "_cache", None)
    if hasattr(client, "get_client"):  # Django's RedisCache
        return end_in(client.get_client(made).pttl(made))
    return True


def end_in(milliseconds: int) -> datetime | None:
    """Return when an entry ends, by its time to live in Redis; None if it is gone."""
    if milliseconds == _MISSING:
        return None
    if milliseconds < 0:  # it never ends
        return dates.LATEST
    return dates.add_seconds(dates.utc_now(), milliseconds / 1000)


def _file_date(store: Any, name: str) -> datetime | None:
    try:
        # load() takes a file that cannot be opened for one that is gone.
        with Path(store._key_to_file()).open("rb") as file:
            return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, timezone.utc)
    except FileNotFoundError:
        return None


def _cookie_date(store: Any, name: str) -> datetime:
    """Return the date in the timestamp of a cookie. load() finds out whether that is genuine."""
    seconds = signing.b62_decode(name.rsplit(":", 2)[1])
    return dates.add_seconds(datetime.fromtimestamp(0, timezone.utc), seconds)


_CLUES: dict[str, Callable[[Any, str], Any]] = {
    ROWS: _row,
    CACHE: _entry_end,
    FILE: _file_date,
    COOKIES: _cookie_date,
    OTHER: lambda store, name: True,
}


def _end(store: Any, saved: datetime, expiry: Any) -> datetime:
    """Return when a session ends that was saved then, as Django computes it."""
    return _whole(dates.utc(store.get_expiry_date(modification=saved, expiry=expiry)))


def _whole(date: datetime) -> datetime:
    """Return a date in whole milliseconds, as BSON stores it, and never a later one."""
    return date.replace(microsecond=date.microsecond // 1000 * 1000)


# Signed cookies


def is_cookie(value: object) -> bool:
    """Return whether a value may be a signed cookie, and so no key."""
    return (
        isinstance(value, str)
        and ":" in value
        and len(value) <= MAX_COOKIE
        and _COOKIE.fullmatch(value) is not None
    )


def key_of_cookie(cookie: str) -> str:
    """Return the key under which the session of a signed cookie is adopted.

    All requests with the same cookie derive the same key, even if SECRET_KEY changes. Whoever has
    the cookie has the session anyway, and nobody else can make up its signature.
    """
    number = int.from_bytes(sha256(_KEY_PREFIX + cookie.encode()).digest(), "big")
    characters = []
    for _ in range(_KEY_LENGTH):
        number, digit = divmod(number, len(_KEY_ALPHABET))
        characters.append(_KEY_ALPHABET[digit])
    return "".join(characters)


# The one that is set


def current() -> OldEngine | None:
    """Return the engine that PREDECESSOR names; None if there is none, or its time is over.

    Raises ImproperlyConfigured if it cannot be used, or if PREDECESSOR_UNTIL is no date.
    """
    if conf.PREDECESSOR is None or conf.predecessor_until() <= dates.utc_now():
        return None
    return _engine(conf.predecessor_class())


def needs_tombstones() -> bool:
    """Return whether what is deleted now might be adopted again.

    For a day after PREDECESSOR_UNTIL too: a request or an import may have read the old session
    before, and another host's clock may be late.
    """
    if conf.PREDECESSOR is None:
        return False
    return dates.utc_now() < conf.predecessor_until() + documents.TOMBSTONE_MARGIN


def translated(key: str) -> tuple[str, str]:
    """Return the key of a session here, and what the old engine calls it.

    They differ only if the key is a signed cookie of the old engine's.
    """
    old = current()
    if old is not None and old.kind == COOKIES and is_cookie(key):
        return key_of_cookie(key), key
    return key, key


@cache
def _engine(store: type[SessionBase]) -> OldEngine:
    try:
        return OldEngine(store)
    except RuntimeError as error:  # its app is not installed, so its model cannot be imported
        raise ImproperlyConfigured(f"MONGO_SESSIONS['PREDECESSOR']: {error}") from error
