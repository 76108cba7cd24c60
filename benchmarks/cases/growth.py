"""The cases of this engine on a collection of many sessions, all of them different."""

from __future__ import annotations

import hashlib
import random
import time
from datetime import timedelta
from functools import partial
from typing import Any

import psutil
from django.conf import settings
from pymongo import WriteConcern

from benchmarks import payloads, site
from benchmarks.cases import COUNT, LIMITED, LIST, Operation
from benchmarks.cases.django import DjangoCases, Ready
from django_mongo_sessions import users
from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.storage import dates, documents

_BATCH = 1_000
_CARTS = 100
_EACH = 3  # sessions of a user
_DAY = timedelta(days=1)


def key(number: int) -> str:
    """Compute the key of a session from its number, so that millions of keys need no memory."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


def user(number: int) -> str:
    """Compute the id of the user of a session from the session's number."""
    return f"{number // _EACH:06d}"


def identity(user_id: str) -> dict[str, str]:
    """Return what a session holds of its user."""
    password = hashlib.sha256(user_id.encode()).hexdigest()
    return {**payloads.SIGNED_IN, "_auth_user_id": user_id, "_auth_user_hash": password}


class RecordingCollection:
    """A collection that only records inserts, so that they can be sent in batches."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []

    def insert_one(self, document: dict[str, Any]) -> None:
        """Record the document. The engine does not read the reply of an insert."""
        self.documents.append(document)


class GrowthCases(DjangoCases):
    """The cases with many stored sessions, and the methods that the suite calls."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.chance = random.Random(0)
        self.sessions = clients.collection().collection
        self.process = psutil.Process()
        self.signed_in: list[Any] = []  # by the last round of LIMITED
        self.cases.update(
            {LIST: self.list_sessions, COUNT: self.count_sessions, LIMITED: self.sign_in}
        )
        size = payloads.SIZES[0]
        self.carts = [
            payloads.random_data(size, True, random.Random(each)) for each in range(_CARTS)
        ]

    def prepare(self, case: str, size: int) -> Ready:
        """See DjangoCases. The sessions have been stored by `fill()`."""
        settings.MONGO_SESSIONS["MAX_SESSIONS"] = _EACH + 1 if case == LIMITED else None
        return self.cases[case]

    def _next(self, number: int) -> list[str]:
        return [key(each) for each in self.chance.sample(range(self.total), number)]

    def _users(self, number: int) -> list[str]:
        # The last user may have fewer sessions than the others.
        chosen = self.chance.sample(range(self.total // _EACH), number)
        return [user(each * _EACH) for each in chosen]

    def list_sessions(self, number: int) -> list[Operation]:
        """List the sessions of a user."""
        return [partial(users.list_sessions, each) for each in self._users(number)]

    def count_sessions(self, number: int) -> list[Operation]:
        """Count the sessions of a user."""
        return [partial(users.count_sessions, each) for each in self._users(number)]

    def sign_in(self, number: int) -> list[Operation]:
        """Sign in users who have as many sessions as may be, so that the oldest one ends.

        They are one more than `fill()` has stored, so those stay for the other cases.
        """
        for session in self.signed_in:
            session.delete()
        chosen = self._users(number)
        for each in chosen:
            self._store_old(each)
        self.signed_in = [self._anonymous() for _ in chosen]
        return [partial(sign_in, *each) for each in zip(self.signed_in, chosen, strict=True)]

    def _store_old(self, user_id: str) -> None:
        session = self.store()
        session.update({**self.carts[0], **identity(user_id)})
        session.save()
        document_id = documents.document_id(session.session_key)
        seen = {"seen_at": dates.utc_now() - _DAY}
        self.sessions.update_one({"_id": document_id}, {"$set": seen})

    def _anonymous(self) -> Any:
        session = self.store()
        session.update({name: self.carts[0][name] for name in ("count", "cart", "note")})
        session.save()
        return self._read(session.session_key)

    # Called by the suite

    def fill(self, first: int, number: int, expired: bool = False) -> None:
        """Store sessions, in the engine's own documents. The cases do not use expired sessions."""
        probe = self.store()
        probe.save()  # the first save of a process looks for the index
        probe.delete()
        run(indexes.mend())
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
                store = self.store(session_key)
                store.clear()  # or the next line would load it
                store.update(self.carts[number % len(self.carts)])
                store.update(identity(user(number)))
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


def sign_in(session: Any, user_id: str) -> None:
    session.cycle_key()
    session.update(identity(user_id))
    session.save()
