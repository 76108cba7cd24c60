"""What we ask MongoDB, and what its replies mean. No I/O happens here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo import WriteConcern

from django_mongo_sessions import documents
from django_mongo_sessions.drivers import Operation

# One session


# Read by `_id` alone, which MongoDB answers without making a plan: to filter by the date takes it a
# quarter longer. The date comes along.


def find(document_id: bytes, now: datetime) -> Operation[Mapping[str, Any] | None]:
    """Read a live session's document, None where there is none."""
    return Operation(
        lambda sessions: sessions.find_one({"_id": document_id}, documents.PROJECTION),
        lambda reply: documents.live(reply, now),
    )


def find_whole(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """Read all of a session's document, also where it has expired; None where there is none."""
    return Operation(lambda sessions: sessions.find_one({"_id": document_id}), _as_it_is)


def exists(document_id: bytes, now: datetime) -> Operation[bool]:
    """Ask whether a live session is there."""
    return Operation(
        lambda sessions: sessions.find_one({"_id": document_id}, documents.EXPIRY),
        lambda reply: documents.live(reply, now) is not None,
    )


def insert(document: Mapping[str, Any]) -> Operation[bool]:
    """Store a new session; DuplicateKeyError where its id is taken."""
    return Operation(lambda sessions: sessions.insert_one(document), lambda reply: True)


def update(document_id: bytes, revision: int, change: Mapping[str, Any]) -> Operation[bool]:
    """Change a session if nobody has since that revision, and answer whether. Never an upsert."""
    wanted = documents.revised(document_id, revision)
    return Operation(
        lambda sessions: sessions.update_one(wanted, change),
        lambda reply: bool(reply.matched_count),
    )


def confirm(document_id: bytes, revision: int, stored: Mapping[str, Any]) -> Operation[bool]:
    """Answer whether a write was done whose answer was lost.

    By a write that changes nothing: it waits for what was written before to be as durable.
    """
    wanted = documents.evidence(document_id, revision, stored)
    same = {"$set": {"revision": revision}}
    return Operation(
        lambda sessions: sessions.update_one(wanted, same),
        lambda reply: bool(reply.matched_count),
    )


def delete(document_id: bytes, revision: int | None = None) -> Operation[bool]:
    """Delete a session, where a revision is given only if it is still at that one, and answer
    whether it was there.
    """
    return _delete(documents.revised(document_id, revision))


def take_back(document: Mapping[str, Any]) -> Operation[bool]:
    """Delete a session that was inserted, if it was, and is as it was then."""
    return _delete(documents.evidence(document["_id"], 0, document))


def _delete(wanted: Mapping[str, Any]) -> Operation[bool]:
    return Operation(
        lambda sessions: _durable(sessions).delete_one(wanted),
        lambda reply: bool(reply.deleted_count),
    )


# Many sessions


def find_expired(now: datetime, after: bytes | None, skip: int) -> Operation[bytes | None]:
    """Read the id of an expired session, so many further on in the order of ids."""
    wanted = documents.expired(now, after)
    return Operation(
        lambda sessions: sessions.find_one(wanted, {"_id": True}, sort=[("_id", 1)], skip=skip),
        lambda reply: reply and reply["_id"],
        patient=True,
    )


def delete_expired(now: datetime, after: bytes | None, up_to: bytes | None) -> Operation[int]:
    """Delete the expired sessions in a range of ids, and answer how many they were."""
    wanted = documents.expired(now, after, up_to)
    return Operation(
        lambda sessions: _durable(sessions).delete_many(wanted),
        lambda reply: reply.deleted_count,
        patient=True,
    )


# The collection and its server


def index_information() -> Operation[Mapping[str, Mapping[str, Any]]]:
    """Read what indexes there are, by name."""
    return Operation(lambda sessions: sessions.index_information(), _as_it_is)


def estimated_count() -> Operation[int]:
    """Ask for the number of documents as the server remembers it: no scan."""
    return Operation(lambda sessions: sessions.estimated_document_count(), _as_it_is)


def create_index(index: documents.Index, patient: bool) -> Operation[str]:
    """Create an index; nothing happens where the very same is there."""
    return Operation(
        lambda sessions: sessions.create_index(index.keys, name=index.name, **index.options),
        _as_it_is,
        patient,
    )


def set_ttl(name: str, seconds: int) -> Operation[Any]:
    """Change how long after its date an index removes a document; before MongoDB 5.1 only of an
    index that removes documents already.
    """
    change = {"name": name, "expireAfterSeconds": seconds}
    return Operation(
        lambda sessions: sessions.database.command("collMod", sessions.name, index=change),
        _as_it_is,
    )


def drop_index(name: str) -> Operation[None]:
    """Drop an index; the documents stay."""
    return Operation(lambda sessions: sessions.drop_index(name), _as_it_is)


def ping() -> Operation[Any]:
    """Ask whether the server is there."""
    return Operation(lambda sessions: sessions.database.command("ping"), _as_it_is)


def _as_it_is(reply: Any) -> Any:
    return reply


def _durable(sessions: Any) -> Any:
    """Return the collection with majority writes: a sign-out must survive a failover."""
    given = sessions.write_concern.document
    if given.get("w") == "majority":
        return sessions
    return sessions.with_options(write_concern=WriteConcern(**{**given, "w": "majority"}))
