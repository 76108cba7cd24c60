"""A collection in memory, of documents as MongoDB holds and sends them: BSON, by PyMongo's codec.

It has what the verbs of sessions need, one by one and joined, and records the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import InsertOne, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, WriteError
from pymongo.results import BulkWriteResult, DeleteResult, InsertOneResult, UpdateResult

from django_mongo_sessions.connection.collection import _CODEC_OPTIONS
from tests.fuzz import values

# As the engine sets them on a real collection, of a client that a site has made to read UUIDs.
CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    **_CODEC_OPTIONS, uuid_representation=UuidRepresentation.STANDARD
)

_CONVERSION_FAILURE = 241


class Collection:
    """The stand-in of `pymongo.collection.Collection`."""

    write_concern = WriteConcern("majority")
    codec_options = CODEC_OPTIONS

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
        return self._found(wanted, projection)

    def find_all(
        self, wanted: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Read what `find(...).to_list()` does, by ids alone."""
        self._ask("find")
        [(operator, ids)] = wanted["_id"].items()
        assert operator == "$in"
        found = [self._found({"_id": document_id}, projection) for document_id in ids]
        return [document for document in found if document is not None]

    def find(self, *args: Any) -> Cursor:
        return Cursor(lambda: self.find_all(*args))

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
            self._change(found, change.get("$set", {}), change.get("$unset", {}))
        return UpdateResult({"n": int(found is not None)}, True)

    def bulk_write(
        self, statements: Sequence[InsertOne[Any] | UpdateOne], ordered: bool
    ) -> BulkWriteResult:
        assert not ordered
        self._ask("bulk")
        done: dict[str, Any] = {"nInserted": 0, "nMatched": 0}
        errors: list[dict[str, Any]] = []
        for index, statement in enumerate(statements):
            try:
                if isinstance(statement, InsertOne):
                    self._insert(statement._doc)
                    done["nInserted"] += 1
                else:
                    done["nMatched"] += self._change_or_fail(statement._filter, statement._doc)
            except OperationFailure as error:
                errors.append({"index": index, "code": error.code, "errmsg": str(error)})
        done.update(writeErrors=errors, writeConcernErrors=[])
        if errors:
            raise BulkWriteError(done)
        return BulkWriteResult(done, True)

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

    def _found(
        self, wanted: Mapping[str, Any], projection: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
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

    def _change(
        self, found: dict[str, Any], changed: Mapping[str, Any], removed: Iterable[str]
    ) -> None:
        found.update(changed)
        for name in removed:
            found.pop(name, None)
        self.stored[found["_id"]] = bson.encode(found, codec_options=values.AS_HELD)

    def _change_or_fail(self, wanted: Mapping[str, Any], pipeline: Any) -> int:
        """Apply an update as `documents.update_or_fail` makes it; no other pipeline is known."""
        bson.encode({"pipeline": pipeline})
        found = self._match(wanted)
        if found is None:
            return 0
        condition, merged, failure = pipeline[0]["$replaceWith"]["$cond"]
        field, write_id = condition["$eq"]
        assert isinstance(write_id, bytes)  # else MongoDB might take it for an expression
        held = found.get(field[1:])
        if not (isinstance(held, bytes) and held == write_id):
            reason = failure["$toInt"]["$concat"][0]
            raise WriteError(f"Failed to parse number '{reason}binData'", _CONVERSION_FAILURE)
        root, literal = merged["$mergeObjects"]
        assert root == "$$ROOT"
        self._change(found, literal["$literal"], pipeline[1]["$unset"] if pipeline[1:] else ())
        return 1

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


class Cursor:
    """What `find` returns at once. Its call is the one that reads it."""

    def __init__(self, to_list: Callable[[], Any]) -> None:
        self.to_list = to_list


class AsyncCollection:
    """The same collection, with calls to await."""

    write_concern, codec_options = Collection.write_concern, CODEC_OPTIONS

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def find_one(self, *args: Any) -> dict[str, Any] | None:
        return self._collection.find_one(*args)

    async def find_all(self, *args: Any) -> list[dict[str, Any]]:
        return self._collection.find_all(*args)

    def find(self, *args: Any) -> Cursor:
        return Cursor(lambda: self.find_all(*args))

    async def bulk_write(self, *args: Any, **kwargs: Any) -> BulkWriteResult:
        return self._collection.bulk_write(*args, **kwargs)

    async def insert_one(self, *args: Any) -> InsertOneResult:
        return self._collection.insert_one(*args)

    async def update_one(self, *args: Any) -> UpdateResult:
        return self._collection.update_one(*args)

    async def replace_one(self, *args: Any, **kwargs: Any) -> UpdateResult:
        return self._collection.replace_one(*args, **kwargs)

    async def delete_one(self, *args: Any) -> DeleteResult:
        return self._collection.delete_one(*args)
