"""The engine in the world of an input. All that runs is its own code.

But its clock stands still, it does not sleep, and it counts instead of drawing random identities.
Decompressing or deserializing bytes that no key of ours has sealed is an error.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from django.contrib.sessions.serializers import JSONSerializer
from django.test import override_settings

from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.breaker import Breaker
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.engine import session as engine_session
from django_mongo_sessions.mongo import coalescing, indexes, writes
from django_mongo_sessions.storage import codec, dates, documents
from tests.fuzz.collection import AsyncCollection
from tests.fuzz.world import KEY, VICTIMS_KEY, world

OLD_KEY = "a key that may still open"


class Violation(BaseException):
    """Something happened that must not happen. No `except Exception` hides it."""


class Zlib:
    """The module, guarded."""

    compress = staticmethod(zlib.compress)
    error = zlib.error

    class decompressobj:
        """Decompresses what is sealed."""

        def __init__(self) -> None:
            self._inflater = zlib.decompressobj()

        @property
        def eof(self) -> bool:
            """Whether the end was reached."""
            return self._inflater.eof

        def decompress(self, body: bytes, most: int) -> bytes:
            """Decompress it, and return so many bytes at most."""
            held = map(world.held, world.collection.stored)
            if body != world.deflated and not any(one and one.sealed == body for one in held):
                raise Violation("decompressed, and no key of ours has sealed it")
            return self._inflater.decompress(body, most)


class Serializer(JSONSerializer):
    """Django's, guarded."""

    def dumps(self, obj: Any) -> bytes:
        """Serialize, and remember the body."""
        body: bytes = super().dumps(obj)
        world.bodies.add(body)
        return body

    def loads(self, data: bytes) -> Any:
        """Deserialize what is our own or sealed."""
        if data not in world.bodies:
            held = map(world.held, world.collection.stored)
            if not any(one and one.body == data for one in held):
                raise Violation("deserialized, and no key of ours has sealed it")
            world.bodies.add(data)
        return super().loads(data)


class Refusals(logging.Handler):
    """What the engine logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Record it, and fail if it contains a key."""
        text = record.getMessage()
        assert KEY not in text
        assert VICTIMS_KEY not in text
        if record.name == "django.security.SuspiciousSession":
            world.refusals.append(text)


@contextmanager
def prepared() -> Iterator[None]:
    """Let the engine run in the world, sync and async."""
    target = SessionCollection(world.collection, None, False, Breaker(None, timeout=5))
    awaited = target._replace(collection=AsyncCollection(world.collection))
    with ExitStack() as stack:
        stack.enter_context(
            override_settings(
                MONGO_SESSIONS=world.options,
                SECRET_KEY_FALLBACKS=[OLD_KEY],
                SESSION_SAVE_EVERY_REQUEST=False,
                SESSION_SERIALIZER=f"{__name__}.Serializer",
            )
        )
        held = clients._Clients()
        held.blocking = target
        held.by_loop[world.loop] = awaited, None  # type: ignore[assignment]
        for place, replaced in [
            (clients, {"_clients": held}),
            (coalescing, {"_queue": world.queue}),
            (codec, {"zlib": Zlib}),
            (dates, {"utc_now": world.utc_now}),
            (documents, {"os": world, "document_id": world.document_id}),
            (engine_session, {"time": world}),
            (writes, {"_FIRST_DELAY": 0, "_LONGEST_DELAY": 0}),
            (indexes, {"_ensured": {("mongomock://", None, "sessions")}}),
        ]:
            stack.enter_context(mock.patch.multiple(place, **replaced))
        for name in ("django_mongo_sessions", "django.security.SuspiciousSession"):
            stack.enter_context(
                mock.patch.multiple(logging.getLogger(name), handlers=[Refusals()], propagate=False)
            )
        yield
