"""The world of one input: an engine on a collection in memory, with a victim's session."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import bson
from django.conf import settings

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.coalescing import Queue
from django_mongo_sessions.mongo.joint import Find, Insert
from django_mongo_sessions.mongo.runner import Operation
from django_mongo_sessions.storage import documents
from django_mongo_sessions.storage.documents import document_id
from tests.fuzz import joining, model
from tests.fuzz.collection import CODEC_OPTIONS, Collection
from tests.fuzz.data import Data

KEY, VICTIMS_KEY = "0123456789abcdefghijklmnopqrstuv", "zyxwvutsrqponmlkjihgfedcba543210"
ID, VICTIMS_ID = model.id_of(KEY), model.id_of(VICTIMS_KEY)
SECRET = "the secret of the victim"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)


class World:
    """What exists, and what has happened."""

    def __init__(self) -> None:
        self.collection = Collection()
        self.loop = asyncio.new_event_loop()
        self.options: dict[str, Any] = {"URI": "mongomock://"}  # of the engine
        self.now, self.is_async = NOW, False
        self.is_joined, self.sent = False, 0  # whether the victim's operations go out with others
        self.refusals: list[str] = []  # as they were logged
        self.bodies: set[bytes] = set()  # that may be deserialized
        self.deflated: bytes | None = None  # what may be decompressed beside what is stored
        self.brought: list[dict[str, Any]] = []  # what views have set
        self.victims = b""  # the document of the victim's session
        self.cookies: dict[bytes, str] = {}  # by id, those that the engine has seen
        self._is_victim_gone = False
        self._writes, self._forged = 0, 0

    def begin(self, data: Data) -> None:
        """Forget all but the victim's session, and choose sync or async, and settings."""
        self.now = NOW
        if not self.victims:
            self.is_joined = False  # there is nobody yet to go out with
            self.victims = self._store_victim()
        self.collection.stored = {VICTIMS_ID: self.victims}
        self._is_victim_gone = False
        self.collection.asked.clear()
        self.collection.unsent.clear()
        self.collection.interruptions.clear()
        self.refusals.clear()
        self.bodies.clear()
        self.deflated = None
        self.brought.clear()
        self.sent = 0
        self.is_async = data.flag()
        chosen = data.byte()
        settings.SESSION_SAVE_EVERY_REQUEST = chosen & 1 == 1
        self.options["TRACK_NESTED"] = chosen & 2 == 2
        self.options["ON_CONFLICT"] = "raise" if chosen & 4 else "merge"
        self.options["TOUCH_INTERVAL"] = 60 if chosen & 8 else None
        self.options["ABSOLUTE_AGE"] = 3600 if chosen & 16 else None
        self.options["COMPRESS"] = 1 if chosen & 32 else 4096
        self.is_joined = chosen & 64 == 64

    def _store_victim(self) -> bytes:
        store = SessionStore(VICTIMS_KEY)
        store.save(must_create=True)
        store.update({"secret": SECRET, "_auth_user_id": "7"})
        store.save()
        return self.collection.stored[VICTIMS_ID]

    def queue(self, kind: type[Queue], operation: Operation[Any], target: Any) -> Any:
        """Return the queue in which an operation meets those of the victim; None for none."""
        if not self.is_joined or operation.joint is None:
            return None
        return joining.queue(kind, target, self)

    def others(self, kind: type) -> list[tuple[Operation[Any], list[Any]]]:
        """Return an operation of the victim's, which changes nothing, and its results."""
        if VICTIMS_ID not in self.collection.stored:
            return []
        if kind is Find:
            find = operations.find(VICTIMS_ID)
            victims = bson.decode(self.victims, CODEC_OPTIONS)
            # If another document cannot be decoded, it is read alone.
            return [(replace(find, read=lambda reply: reply), [victims, joining.ALONE])]
        marker = documents.marker(VICTIMS_ID, b"not the last", NOW)
        if kind is Insert:
            return [(operations.insert(marker), [joining.ALONE])]
        change = {"$set": {"payload": b""}}
        return [(operations.update(VICTIMS_ID, marker["write_id"], change), [False])]

    def do(self, store: SessionStore, verb: str, *args: Any) -> Any:
        """Call a verb, sync or async, as this input says."""
        if not self.is_async:
            return getattr(store, verb)(*args)
        twin = f"_a{verb[1:]}" if verb.startswith("_") else f"a{verb}"
        return self.loop.run_until_complete(getattr(store, twin)(*args))

    def held(self, document_id: bytes | None) -> model.Held | None:
        """Return what is stored under an id, as the model reads it."""
        raw = self.collection.stored.get(document_id)
        return None if raw is None else self.judged(document_id, raw)

    def judged(self, document_id: bytes, raw: bytes) -> model.Held:
        """Return what a document means under an id, as the model reads it."""
        keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        return model.read(raw, document_id, keys, self.now, self.cookies.get(document_id, ""))

    def way(self, document_id: bytes | None) -> list[bytes]:
        """Return the ids that a sign-out visits, as the model reads the pointers."""
        way: list[bytes] = []
        while document_id is not None and document_id not in way:
            way.append(document_id)
            held = self.held(document_id)
            document_id = held.target if held is not None and held.is_spared else None
        return way

    def document_id(self, key: Any) -> bytes | None:
        """Return the id of a key as the engine does, and remember whose it is."""
        found = document_id(key)
        if found is not None:
            self.cookies[found] = key
        return found

    def urandom(self, size: int) -> bytes:
        """Return bytes that the engine has not been given yet."""
        self._writes += 1
        return self._writes.to_bytes(size, "big")

    def forged_write_id(self) -> bytes:
        """Return an identity that no write of the engine has, and no other document."""
        self._forged += 1
        return b"forged" + self._forged.to_bytes(6, "big")

    def utc_now(self) -> datetime:
        """Return the present, which moves only by `later`."""
        return self.now

    def monotonic(self) -> float:
        """Return the present in seconds."""
        return self.now.timestamp()

    def later(self, seconds: int) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def check_victim(self, *shown: object, may_be_gone: bool = False) -> None:
        """Fail if the victim's session was changed, or shows in any of these."""
        stored = self.collection.stored.get(VICTIMS_ID)
        self._is_victim_gone |= may_be_gone and stored is None
        assert stored == (None if self._is_victim_gone else self.victims)
        assert SECRET not in repr(shown)


world = World()
