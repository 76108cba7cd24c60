"""A collection in memory, of documents as MongoDB holds and sends them: BSON, by PyMongo's codec.

It has what the verbs of one session ask for, and takes note of what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from pymongo import WriteConcern
from pymongo.errors import DuplicateKeyError, WriteError
from pymongo.results import DeleteResult, InsertOneResult, UpdateResult

from django_mongo_sessions.connection.collection import _CODEC_OPTIONS

# As the engine sets them on a real collection, of a client that a site has made to read UUIDs.
CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    **_CODEC_OPTIONS, uuid_representation=UuidRepresentation.STANDARD
)
_LARGEST = 2**63 - 1


class Collection:
    """The stand-in of `pymongo.collection.Collection`."""

    write_concern = WriteConcern("majority")

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.asked: list[str] = []
        self.meanwhile: list[Callable[[], None]] = []  # what others do, each before one call

    def find_one(
        self, wanted: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        self._ask("find")
        found = self._match(wanted)
        if found is None or projection is None:
            return found
        return {name: value for name, value in found.items() if name in (*projection, "_id")}

    def insert_one(self, document: Mapping[str, Any]) -> InsertOneResult:
        self._ask("insert")
        raw = bson.encode(document)
        if document["_id"] in self.stored:
            raise DuplicateKeyError("E11000", 11000, {"keyPattern": {"_id": 1}})
        self.stored[document["_id"]] = raw
        return InsertOneResult(document["_id"], True)

    def update_one(self, wanted: Mapping[str, Any], change: Mapping[str, Any]) -> UpdateResult:
        self._ask("update")
        bson.encode(change)
        found = self._match(wanted) if self._matches(wanted) else None
        if found is not None:
            found.update(change.get("$set", {}))
            for name in change.get("$unset", {}):
                found.pop(name, None)
            for name, step in change.get("$inc", {}).items():
                if found[name] + step > _LARGEST:
                    raise WriteError("Failed to apply $inc operations to current value", 2)
                found[name] += step
            self.stored[wanted["_id"]] = bson.encode(found, codec_options=CODEC_OPTIONS)
        return UpdateResult({"n": int(found is not None)}, True)

    def delete_one(self, wanted: Mapping[str, Any]) -> DeleteResult:
        self._ask("delete")
        found = self._matches(wanted)
        if found:
            del self.stored[wanted["_id"]]
        return DeleteResult({"n": int(found)}, True)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.meanwhile:
            self.meanwhile.pop(0)()

    def _matches(self, wanted: Mapping[str, Any]) -> bool:
        """Return whether there is such a document, which MongoDB need not decode to tell that."""
        try:
            return self._match(wanted) is not None
        except InvalidBSON:
            return wanted.keys() == {"_id"}

    def _match(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the document that has these very values; MongoDB tells 1 and true apart too."""
        bson.encode(wanted)
        raw = self.stored.get(wanted["_id"])
        if raw is None:
            return None
        document = {**bson.decode(raw, CODEC_OPTIONS), "_id": wanted["_id"]}
        for name, value in wanted.items():
            held = document.get(name)
            if held != value or isinstance(held, bool) != isinstance(value, bool):
                return None
        return document


class AsyncCollection:
    """The same collection, with calls to await."""

    write_concern = Collection.write_concern

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def find_one(self, *args: Any) -> dict[str, Any] | None:
        return self._collection.find_one(*args)

    async def insert_one(self, *args: Any) -> InsertOneResult:
        return self._collection.insert_one(*args)

    async def update_one(self, *args: Any) -> UpdateResult:
        return self._collection.update_one(*args)

    async def delete_one(self, *args: Any) -> DeleteResult:
        return self._collection.delete_one(*args)
