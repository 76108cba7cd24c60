"""A collection in memory, of documents as MongoDB holds and sends them: BSON, by PyMongo's codec.

It has what the verbs of one session need, and records the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import WriteConcern
from pymongo.errors import DuplicateKeyError
from pymongo.results import DeleteResult, InsertOneResult, UpdateResult

from django_mongo_sessions.connection.collection import _CODEC_OPTIONS
from tests.fuzz import values

# As the engine sets them on a real collection, of a client that a site has made to read UUIDs.
CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    **_CODEC_OPTIONS, uuid_representation=UuidRepresentation.STANDARD
)


class Collection:
    """The stand-in of `pymongo.collection.Collection`."""

    write_concern = WriteConcern("majority")

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.asked: list[str] = []
        self.unsent: set[bytes] = set()  # ids of documents that PyMongo could not encode
        # What other requests do, each before one call.
        self.interruptions: list[Callable[[], None]] = []

    def find_one(
        self, wanted: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        self._ask("find")
        found = self._match(wanted)
        if found is None:
            return None
        sent = {
            name: value
            for name, value in found.items()
            if projection is None or name in (*projection, "_id")
        }
        reply = bson.encode(sent, codec_options=values.AS_HELD)
        return {**bson.decode(reply, CODEC_OPTIONS), "_id": wanted["_id"]}

    def insert_one(self, document: Mapping[str, Any]) -> InsertOneResult:
        self._ask("insert")
        self._insert(document)
        return InsertOneResult(document["_id"], True)

    def update_one(self, wanted: Mapping[str, Any], change: Mapping[str, Any]) -> UpdateResult:
        self._ask("update")
        assert change.keys() <= {"$set", "$unset"}  # no other is known here
        bson.encode(change)
        found = self._match(wanted)
        if found is not None:
            found.update(change.get("$set", {}))
            for name in change.get("$unset", {}):
                found.pop(name, None)
            self.stored[wanted["_id"]] = bson.encode(found, codec_options=values.AS_HELD)
        return UpdateResult({"n": int(found is not None)}, True)

    def replace_one(
        self, wanted: Mapping[str, Any], document: Mapping[str, Any], upsert: bool = False
    ) -> UpdateResult:
        self._ask("replace")
        assert document["_id"] == wanted["_id"]  # which MongoDB refuses to change
        if self._match(wanted) is not None:
            self.stored[wanted["_id"]] = bson.encode(document)
            return UpdateResult({"n": 1}, True)
        if not upsert:
            return UpdateResult({"n": 0}, True)
        self._insert(document)
        return UpdateResult({"n": 1, "upserted": wanted["_id"]}, True)

    def delete_one(self, wanted: Mapping[str, Any]) -> DeleteResult:
        self._ask("delete")
        found = self._match(wanted) is not None
        if found:
            del self.stored[wanted["_id"]]
        return DeleteResult({"n": int(found)}, True)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.interruptions:
            self.interruptions.pop(0)()

    def _insert(self, document: Mapping[str, Any]) -> None:
        try:
            raw = bson.encode(document)
        except Exception:
            self.unsent.add(document["_id"])
            raise
        if document["_id"] in self.stored:
            raise DuplicateKeyError("E11000", 11000, {"keyPattern": {"_id": 1}})
        self.stored[document["_id"]] = raw

    def _match(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the document that a filter matches, also if PyMongo cannot decode it."""
        bson.encode(wanted)
        raw = self.stored.get(wanted["_id"])
        if raw is None:
            return None
        document = {**bson.decode(raw, values.AS_HELD), "_id": wanted["_id"]}
        is_match = all(_fulfils(document.get(name), value) for name, value in wanted.items())
        return document if is_match else None


def _fulfils(held: Any, condition: Any) -> bool:
    """Return whether a field, or None for a missing one, is as a filter says."""
    if not isinstance(condition, dict):
        return values.equals(held, condition)
    [(operator, value)] = condition.items()
    assert operator == "$ne"  # no other is known here
    return not values.equals(held, value)


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

    async def replace_one(self, *args: Any, **kwargs: Any) -> UpdateResult:
        return self._collection.replace_one(*args, **kwargs)

    async def delete_one(self, *args: Any) -> DeleteResult:
        return self._collection.delete_one(*args)
