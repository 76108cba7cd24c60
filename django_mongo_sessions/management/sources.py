"""List the sessions of another engine, and read many of them at once."""

from __future__ import annotations

import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import import_module
from inspect import isclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import SuspiciousOperation
from django.db import reset_queries
from django.utils import timezone as django_timezone
from django.utils.module_loading import import_string

from django_mongo_sessions.engine import predecessors
from django_mongo_sessions.engine.predecessors import OldEngine, OldSession
from django_mongo_sessions.engine.session import TrackedSession
from django_mongo_sessions.storage import dates

# Keys, and when their sessions end; None if that is known only once a session was read.
Keys = dict[str, datetime | None]


class Old(NamedTuple):
    """A session of another engine, or why it cannot be imported."""

    key: str
    session: OldSession | None
    reason: str = ""  # "expired" or "unreadable", if there is no session
    fields: Mapping[str, Any] = {}  # of the document, besides those that the store derives


class SourceError(Exception):
    """An engine cannot be listed, or has failed. The message says which, and what to do."""


class _Row(NamedTuple):
    expire_date: datetime


class Source(ABC):
    """The sessions of another engine. Each method raises whatever that engine raises."""

    total: int | None = None  # how many there are, if that is known

    def __init__(self, engine: OldEngine) -> None:
        self._engine = engine
        self._store: Any = engine.store()

    @abstractmethod
    def batches(self, size: int) -> Iterator[Keys]:
        """Yield all keys, about `size` at a time. A key may come twice."""

    @abstractmethod
    def read(self, keys: Collection[str]) -> Iterator[Old]:
        """Yield the sessions of some keys of the last batch, without those that are gone."""

    @abstractmethod
    def delete(self, keys: Collection[str]) -> None:
        """Delete sessions where they were listed."""

    def _read_session(self, key: str, data: Any, clue: Any) -> Old:
        """Return a session that was read; see `OldEngine.session` for the clue to its end."""
        with suppress(TypeError, ValueError, OverflowError):  # no expiry that Django would store
            if data and isinstance(data, dict):
                session = self._engine.session(self._store, data, clue)
                return Old(key, session, "" if session else "expired")
        return Old(key, None, "unreadable")

    def _decoded(self, text: str) -> dict[str, Any] | None:
        """Return what the old engine reads from a text; nothing if it cannot."""
        try:
            return self._store.decode(text)  # type: ignore[no-any-return]
        except Exception:  # it may be another package's
            return None


class Rows(Source):
    """The rows of a model with the fields of Django's, or the documents of mongoengine."""

    def __init__(self, engine: OldEngine) -> None:
        super().__init__(engine)
        self._rows = predecessors.model(engine.store).objects
        self.total = self._rows.count()

    def batches(self, size: int) -> Iterator[Keys]:
        """See Source. They come in the order of their keys."""
        ordered = self._rows.order_by("session_key").values_list("session_key", "expire_date")
        found = list(ordered[:size])
        while found:
            yield {key: _aware(ends) for key, ends in found}
            reset_queries()  # with DEBUG, each would be kept, with all of its keys
            found = list(ordered.filter(session_key__gt=found[-1][0])[:size])

    def read(self, keys: Collection[str]) -> Iterator[Old]:
        """See Source."""
        for row in self._rows.filter(session_key__in=list(keys)):
            stored = row.session_data
            # With MONGOENGINE_SESSION_DATA_ENCODE=False, it is a dict.
            data = dict(stored) if isinstance(stored, Mapping) else self._decoded(stored)
            yield self._read_session(row.session_key, data, row)

    def delete(self, keys: Collection[str]) -> None:
        """Delete the rows, and then what `cached_db` keeps of them in its cache."""
        self._rows.filter(session_key__in=list(keys)).delete()
        if hasattr(self._store, "cache_key_prefix"):
            prefix = self._store.cache_key_prefix
            self._store._cache.delete_many([prefix + key for key in keys])


class Files(Source):
    """The files of Django's engine `file`."""

    def batches(self, size: int) -> Iterator[Keys]:
        """See Source."""
        prefix = self._store.file_prefix
        with os.scandir(self._store.storage_path) as entries:
            names = (entry.name for entry in entries if entry.name.startswith(prefix))
            while batch := dict.fromkeys(name[len(prefix) :] for name in islice(names, size)):
                yield batch

    def read(self, keys: Collection[str]) -> Iterator[Old]:
        """See Source. The engine's own load() would replace a file that it cannot read."""
        for key in keys:
            try:
                path = self._path(key)
                written = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
                data = self._decoded(path.read_text(encoding="ascii"))
            except FileNotFoundError:
                continue
            except (OSError, SuspiciousOperation, UnicodeDecodeError):
                data, written = None, dates.EARLIEST
            yield self._read_session(key, data, written)

    def delete(self, keys: Collection[str]) -> None:
        """See Source."""
        for key in keys:
            with suppress(SuspiciousOperation):  # a tombstone's key need not be one of a file
                self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return Path(self._store._key_to_file(key))


class Redis(Source):
    """The entries of Django's `cache` in Redis: in Django's own cache, or that of django-redis.

    The cache reads and deletes the values. Its client is used only to list the keys, and to ask
    when they end.
    """

    def __init__(self, engine: OldEngine) -> None:
        super().__init__(engine)
        self._cache = self._store._cache
        self._client = redis_client(self._cache)
        prefix = self._store.cache_key_prefix
        self._start = self._cache.make_key(prefix)
        if self._cache.make_key(f"{prefix}x") != f"{self._start}x":
            raise SourceError(f"KEY_FUNCTION hides the keys of this cache. {_UNLISTED}")

    def batches(self, size: int) -> Iterator[Keys]:
        """See Source."""
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", self._start) + "*"
        names = self._client.scan_iter(match=pattern, count=size)
        while part := [name.decode(errors="replace") for name in islice(names, size)]:
            yield dict.fromkeys(name.removeprefix(self._start) for name in part)

    def read(self, keys: Collection[str]) -> Iterator[Old]:
        """See Source."""
        names = [self._store.cache_key_prefix + key for key in keys]
        try:
            found = self._cache.get_many(names)
        except Exception:  # one of them may be no pickle; if Redis is down, what follows fails too
            found = {}
            for name in names:
                with suppress(Exception):
                    found[name] = self._cache.get(name)
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(self._start + key)
        for key, name, left in zip(keys, names, pipeline.execute(), strict=True):
            ends = predecessors.end_in(left)
            if ends is not None:
                yield self._read_session(key, found.get(name), ends)

    def delete(self, keys: Collection[str]) -> None:
        """See Source."""
        self._cache.delete_many([self._store.cache_key_prefix + key for key in keys])


class Function(Source):
    """What a function of the project's yields: `(key, data, expires_at, fields)`."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(OldEngine(SessionBase))
        self._engine.kind = predecessors.ROWS  # the end comes with each session
        self._function = function
        self._batch: dict[str, tuple[Any, datetime, Mapping[str, Any]]] = {}

    def batches(self, size: int) -> Iterator[Keys]:
        """See Source."""
        rows = iter(self._function())
        while part := list(islice(rows, size)):
            self._batch = dict(map(self._checked, part))
            yield {key: ends for key, (_, ends, _) in self._batch.items()}

    @staticmethod
    def _checked(row: Any) -> Any:
        try:
            key, data, ends, fields = row
            return key, (data, _aware(ends), dict(fields or {}))
        except (TypeError, ValueError, AttributeError):
            raise SourceError(
                "the function must yield (key, data, expires_at, fields): a string, a dict, a "
                "datetime and a dict."
            ) from None

    def read(self, keys: Collection[str]) -> Iterator[Old]:
        """See Source."""
        for key in keys:
            data, ends, fields = self._batch[key]
            yield self._read_session(key, data, _Row(ends))._replace(fields=fields)

    def delete(self, keys: Collection[str]) -> None:
        """Raise SourceError: nothing is known of where the sessions are."""
        raise SourceError("what a function yields cannot be deleted by this command.")


_UNLISTED = (
    "Let the sessions come over when they are used: set PREDECESSOR. Or name a function that "
    "yields (key, data, expires_at, fields)."
)


def find(path: str) -> Source:
    """Return the sessions of the engine, or of the function, at a dotted path.

    Raises SourceError if it is neither, or cannot be listed.
    """
    named = _imported(path)
    if not isinstance(named, type):
        return Function(named)
    if issubclass(named, TrackedSession):
        raise SourceError(f"{path} is this engine itself. Name the engine that you had before.")
    engine = OldEngine(cast(type[SessionBase], named))
    if engine.kind == predecessors.COOKIES:
        raise SourceError(
            "signed_cookies stores nothing on the server, so there is nothing to import. The "
            "browsers bring their sessions: set PREDECESSOR."
        )
    if engine.kind == predecessors.ROWS:
        return Rows(engine)
    if engine.kind == predecessors.FILE:
        return Files(engine)
    if engine.kind == predecessors.CACHE:
        return Redis(engine)
    raise SourceError(f"{path} cannot be listed. {_UNLISTED}")


def _imported(path: str) -> Any:
    """Return the SessionStore of a module, or the function that a dotted path names."""
    try:
        store = getattr(import_module(path), "SessionStore", None)
        if isclass(store) and issubclass(store, SessionBase):
            return store
    except ModuleNotFoundError:
        with suppress(ImportError):
            function = import_string(path)
            if callable(function) and not isclass(function):
                return function
    raise SourceError(
        f"{path} is neither a module with a SessionStore, such as "
        "django.contrib.sessions.backends.db, nor a function."
    )


def redis_client(cache: Any) -> Any:
    """Return the client of redis-py that a cache uses for writes, and so for no replica.

    These are private methods of Django's. Raises SourceError if the cache is not in Redis.
    """
    client: Any = getattr(cache, "client" if hasattr(cache, "iter_keys") else "_cache", None)
    if hasattr(client, "get_client"):
        return client.get_client(write=True)
    raise SourceError(f"a cache of the class {type(cache).__name__} cannot be listed. {_UNLISTED}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Django from logging each session that it cannot read: they are counted."""
    logger = logging.getLogger("django.security.SuspiciousSession")

    def refuse(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)


def _aware(ends: datetime) -> datetime:
    """Return a date of the old engine as aware UTC.

    With USE_TZ, a naive one comes from an engine that stores UTC, and otherwise it is local.
    """
    if ends.tzinfo is None and django_timezone.now().tzinfo is not None:
        return ends.replace(tzinfo=timezone.utc)
    return dates.utc(ends)
