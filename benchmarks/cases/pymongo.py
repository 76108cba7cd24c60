"""The lower bound: the engine's commands, sent with PyMongo alone, on the engine's documents.

There is no deadline, no seal and no serializer.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from pymongo import MongoClient

from benchmarks.cases import Operation
from benchmarks.cases.django import DjangoCases
from django_mongo_sessions.connection import clients
from django_mongo_sessions.storage import dates, documents


class PyMongoCases(DjangoCases):
    """Load and save without the engine."""

    def __init__(self) -> None:
        super().__init__()
        target = clients.collection()
        ours = target.collection
        self.client: MongoClient[Any] = MongoClient(*target.client.address)
        self.collection = self.client[ours.database.name].get_collection(
            ours.name, codec_options=ours.codec_options, write_concern=ours.write_concern
        )
        self.now = dates.utc_now()
        self.expires_at = self.now + timedelta(days=14)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def load(self, number: int) -> list[Operation]:
        """See DjangoCases."""
        return [partial(self._find, self._id(key)) for key in self._next(number)]

    def save(self, number: int) -> list[Operation]:
        """See DjangoCases."""
        ids = [self._id(key) for key in self._next(number)]
        return [partial(self._update, self._find(document_id)) for document_id in ids]

    def load_change_save(self, number: int) -> list[Operation]:
        """See DjangoCases."""
        return [partial(self._find_and_update, self._id(key)) for key in self._next(number)]

    def _id(self, key: str) -> bytes:
        document_id = documents.document_id(key)
        assert document_id is not None
        return document_id

    def _find(self, document_id: bytes) -> dict[str, Any]:
        wanted = {"_id": document_id}
        found: dict[str, Any] | None = self.collection.find_one(wanted)
        assert found is not None
        return found

    def _update(self, found: dict[str, Any]) -> None:
        wanted = documents.at_revision(found["_id"], found["revision"])
        fields = {"user_id": "1"}
        change = documents.payload_update(found["payload"], self.now, self.expires_at, fields)
        assert self.collection.update_one(wanted, change).matched_count

    def _find_and_update(self, document_id: bytes) -> None:
        self._update(self._find(document_id))
