"""Every command that the engine sends to MongoDB, and what its reply means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo import WriteConcern

from django_mongo_sessions.mongo.runner import Operation
from django_mongo_sessions.storage import documents

# One session. Reads filter by `_id` alone, which MongoDB serves without a query plan: a filter on
# the date takes it a quarter longer. The date comes along and is checked in the reply.


def find(document_id: bytes, now: datetime) -> Operation[Mapping[str, Any] | None]:
    """Read the document of a live session; None if there is none."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.PROJECTION),
        lambda reply: documents.unless_expired(reply, now),
    )


def find_whole(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """Read the whole document of a session, even if it has expired; None if there is none."""
    return Operation(lambda collection: collection.find_one({"_id": document_id}), _unchanged)


def exists(document_id: bytes, now: datetime) -> Operation[bool]:
    """Return whether a live session exists."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.EXPIRY),
        lambda reply: documents.unless_expired(reply, now) is not None,
    )


def insert(document: Mapping[str, Any]) -> Operation[bool]:
    """Insert a new session; DuplicateKeyError if its id is taken."""
    return Operation(lambda collection: collection.insert_one(document), lambda reply: True)


def update(document_id: bytes, revision: int, change: Mapping[str, Any]) -> Operation[bool]:
    """Change a session if it is still at the revision; return whether it was. Never an upsert."""
    wanted = documents.at_revision(document_id, revision)
    return Operation(
        lambda collection: collection.update_one(wanted, change),
        lambda reply: bool(reply.matched_count),
    )


def confirm(document_id: bytes, revision: int, fields: Mapping[str, Any]) -> Operation[bool]:
    """Return whether a write whose reply was lost was applied.

    This is itself a write, which changes nothing: its acknowledgement makes what was written before
    as durable as it is.
    """
    wanted = documents.as_written(document_id, revision, fields)
    same = {"$set": {"revision": revision}}
    return Operation(
        lambda collection: collection.update_one(wanted, same),
        lambda reply: bool(reply.matched_count),
    )


def delete(document_id: bytes, revision: int | None = None) -> Operation[bool]:
    """Delete a session, only at the revision if one is given; return whether it was there."""
    return _delete(documents.at_revision(document_id, revision))


def take_back(document: Mapping[str, Any]) -> Operation[bool]:
    """Delete a session that may have been inserted, unless it was changed since."""
    return _delete(documents.as_written(document["_id"], 0, document))


def _delete(wanted: Mapping[str, Any]) -> Operation[bool]:
    return Operation(
        lambda collection: _majority(collection).delete_one(wanted),
        lambda reply: bool(reply.deleted_count),
    )


# Many sessions


def find_expired(now: datetime, after: bytes | None, skip: int) -> Operation[bytes | None]:
    """Read the id of the expired session that is that many further on, in the order of ids."""
    wanted = documents.expired(now, after)
    return Operation(
        lambda collection: collection.find_one(wanted, {"_id": True}, sort=[("_id", 1)], skip=skip),
        lambda reply: reply and reply["_id"],
        patient=True,
    )


def delete_expired(now: datetime, after: bytes | None, up_to: bytes | None) -> Operation[int]:
    """Delete the expired sessions in a range of ids; return how many there were."""
    wanted = documents.expired(now, after, up_to)
    return Operation(
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: reply.deleted_count,
        patient=True,
    )


# The collection and its server


def index_information() -> Operation[Mapping[str, Mapping[str, Any]]]:
    """Read the indexes of the collection, by name."""
    return Operation(lambda collection: collection.index_information(), _unchanged)


def estimated_count() -> Operation[int]:
    """Read the number of documents from the collection's metadata, without a scan."""
    return Operation(lambda collection: collection.estimated_document_count(), _unchanged)


def create_index(index: documents.Index, patient: bool) -> Operation[str]:
    """Create an index; nothing happens if the same one exists."""
    return Operation(
        lambda collection: collection.create_index(index.keys, name=index.name, **index.options),
        _unchanged,
        patient,
    )


def set_ttl(name: str, seconds: int) -> Operation[Any]:
    """Change after how many seconds an index removes a document.

    Before MongoDB 5.1 this works only for an index that is a TTL index already.
    """
    change = {"name": name, "expireAfterSeconds": seconds}
    return Operation(
        lambda collection: collection.database.command("collMod", collection.name, index=change),
        _unchanged,
    )


def drop_index(name: str) -> Operation[None]:
    """Drop an index; the documents stay."""
    return Operation(lambda collection: collection.drop_index(name), _unchanged)


def ping() -> Operation[Any]:
    """Find out whether a server replies."""
    return Operation(lambda collection: collection.database.command("ping"), _unchanged)


def _unchanged(reply: Any) -> Any:
    return reply


def _majority(collection: Any) -> Any:
    """Return the collection with majority writes: a sign-out must survive a failover."""
    given = collection.write_concern.document
    if given.get("w") == "majority":
        return collection
    return collection.with_options(write_concern=WriteConcern(**{**given, "w": "majority"}))
