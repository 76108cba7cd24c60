"""The lower bound: the engine's commands, sent with PyMongo alone, on the engine's documents.

There is no deadline, no seal and no serializer, and each command goes out by itself.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from pymongo import AsyncMongoClient, MongoClient

from benchmarks.cases import AsyncOperation, Operation
from benchmarks.cases.django import DjangoCases
from django_mongo_sessions.connection import clients
from django_mongo_sessions.storage import dates, documents


class PyMongoCases(DjangoCases):
    """Load and save without the engine."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = clients.collection()
        self.client: MongoClient[Any] = MongoClient(*self.ours.client.address)
        self.collection = self._collection(self.client)
        self.async_collection: Any = None
        self.now = dates.utc_now()
        self.expires_at = self.now + timedelta(days=14)

    def _collection(self, client: Any) -> Any:
        """Return the engine's collection, with its options, on another client."""
        ours = self.ours.collection
        return client[ours.database.name].get_collection(
            ours.name, codec_options=ours.codec_options, write_concern=ours.write_concern
        )

    def close(self) -> None:
        """Close the client. The asynchronous one ends with its loop, and so with the process."""
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

    def aload_change_save(self, number: int) -> list[AsyncOperation]:
        """See DjangoCases."""
        return [partial(self._afind_and_update, self._id(key)) for key in self._next(number)]

    def _id(self, key: str) -> bytes:
        document_id = documents.document_id(key)
        assert document_id is not None
        return document_id

    def _find(self, document_id: bytes) -> dict[str, Any]:
        found: dict[str, Any] | None = self.collection.find_one({"_id": document_id})
        assert found is not None
        return found

    def _update(self, found: dict[str, Any]) -> None:
        assert self.collection.update_one(*self._change(found)).matched_count

    def _find_and_update(self, document_id: bytes) -> None:
        self._update(self._find(document_id))

    async def _afind_and_update(self, document_id: bytes) -> None:
        if self.async_collection is None:  # in the loop that it belongs to
            self.async_collection = self._collection(AsyncMongoClient(*self.ours.client.address))
        found = await self.async_collection.find_one({"_id": document_id})
        assert (await self.async_collection.update_one(*self._change(found))).matched_count

    def _change(self, found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the filter and the update that store the payload again, as the engine would."""
        wanted = documents.at_write(found["_id"], found["write_id"])
        return wanted, documents.payload_update(
            documents.new_write_id(),
            found["revision"] + 1,
            found["payload"],
            self.now,
            self.expires_at,
            {"user_id": "1"},
        )
