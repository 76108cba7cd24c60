"""The cases of this engine on a collection of many sessions, all of them different."""

from __future__ import annotations

import hashlib
import random
import time
from datetime import timedelta
from typing import Any

import psutil
from pymongo import WriteConcern

from benchmarks import payloads, site
from benchmarks.cases.django import DjangoCases, Ready
from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.storage import dates

_BATCH = 1_000
_CARTS = 100
_DAY = timedelta(days=1)


def key(number: int) -> str:
    """Compute the key of a session from its number, so that millions of keys need no memory."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


class RecordingCollection:
    """A collection that only records inserts, so that they can be sent in batches."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []

    def insert_one(self, document: dict[str, Any]) -> None:
        """Record the document. The engine does not read the reply of an insert."""
        self.documents.append(document)


class GrowthCases(DjangoCases):
    """Load and save with many stored sessions, and the methods that the suite calls."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.chance = random.Random(0)
        self.sessions = clients.collection().collection
        self.process = psutil.Process()
        size = payloads.SIZES[0]
        self.carts = [
            payloads.random_data(size, True, random.Random(each)) for each in range(_CARTS)
        ]

    def prepare(self, case: str, size: int) -> Ready:
        """See DjangoCases. The sessions have been stored by `fill()`."""
        return self.cases[case]

    def _next(self, number: int) -> list[str]:
        return [key(each) for each in self.chance.sample(range(self.total), number)]

    # Called by the suite

    def fill(self, first: int, number: int, expired: bool = False) -> None:
        """Store sessions, in the engine's own documents. The cases do not use expired sessions."""
        probe = self.store()
        probe.save()  # the first save of a process creates the index
        probe.delete()
        many = self.sessions.with_options(write_concern=WriteConcern(w=1))
        past = {"expires_at": dates.utc_now() - _DAY} if expired else {}
        for begin in range(first, first + number, _BATCH):
            batch = self._documents(range(begin, min(begin + _BATCH, first + number)))
            many.insert_many([document | past for document in batch], ordered=False)
        if not expired:
            self.total = first + number

    def _documents(self, numbers: range) -> list[dict[str, Any]]:
        """Return the documents that the engine inserts for these sessions."""
        target, recording = clients.collection(), RecordingCollection()
        clients._clients.blocking = SessionCollection(recording, target.timeout, owned=False)
        try:
            for number in numbers:
                session_key = key(number)
                password = hashlib.sha256(session_key.encode()).hexdigest()
                store = self.store(session_key)
                store.clear()  # or the next line would load it
                store.update(self.carts[number % len(self.carts)])
                store.update({"_auth_user_id": f"{number:06d}", "_auth_user_hash": password})
                store.save(must_create=True)
        finally:
            clients._clients.blocking = target
        return recording.documents

    def serve(self, first: int, number: int) -> int:
        """Use different sessions: read nine of ten, and change one of ten in a whole request.

        Return this process's resident memory in bytes.
        """
        for each in range(first, first + number):
            if each % 10:
                self.store(key(each)).load()
            else:
                site.wsgi(key(each))
        return int(self.process.memory_info().rss)

    def clear_expired(self) -> tuple[int, float]:
        """Remove expired sessions. Return how many there were, and how many seconds it took."""
        begun = time.perf_counter()
        count = self.store.clear_expired()
        return count, time.perf_counter() - begun

    def space(self) -> dict[str, Any]:
        """Return bytes per session: of its document, on disk, and of each index on disk."""
        database = self.sessions.database
        database.client.admin.command("fsync")  # the sizes are those of the last checkpoint
        stats = database.command("collStats", self.sessions.name)
        count = stats["count"]
        return {
            "sessions": count,
            "document": stats["size"] / count,
            "collection": stats["storageSize"] / count,
            "indexes": {name: size / count for name, size in stats["indexSizes"].items()},
        }
