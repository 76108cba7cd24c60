"""The commands that requests send, those about indexes, and what each reply means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo import IndexModel, WriteConcern
from pymongo.topology_description import TopologyDescription

from django_mongo_sessions.mongo.joint import Find, Insert, Update
from django_mongo_sessions.mongo.runner import MAINTENANCE_TIMEOUT, Answer, Operation
from django_mongo_sessions.storage import documents

# One session. Reads filter by `_id` alone, which MongoDB serves without a query plan: a filter on
# the date makes them a quarter slower. The date comes along and is checked in the reply. There is
# no projection, which would only leave out what `to_document()` returns.


def find(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """Read the document with an id, whatever it is; None if there is none."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}),
        unchanged,
        joint=Find(document_id),
    )


def find_own_fields(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """See find(). The project's own fields are left out: one of them may not be decodable."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.PROJECTION),
        unchanged,
    )


def find_marker(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """Read the document with an id, but only the fields of a marker; None if there is none."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.MARKER), unchanged
    )


def exists(document_id: bytes, now: datetime) -> Operation[bool | None]:
    """Return whether a live session exists; None if there is nothing at all with that id."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.EXISTENCE),
        lambda reply: None if reply is None else documents.live(reply, now) is not None,
    )


def find_user_id(document_id: bytes) -> Operation[str | None]:
    """Read the id of the user who is signed in; None if none is, or if there is no session."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, {"user_id": True}),
        lambda reply: user_id if isinstance(user_id := (reply or {}).get("user_id"), str) else None,
    )


def insert(document: Mapping[str, Any]) -> Operation[bool]:
    """Insert a new session; DuplicateKeyError if its id is taken."""
    return Operation(
        lambda collection: collection.insert_one(document),
        lambda reply: True,
        joint=Insert(document),
    )


def adopt(document: Mapping[str, Any]) -> Operation[bool]:
    """Insert a session that will be deleted elsewhere; DuplicateKeyError if its id is taken."""
    return Operation(
        lambda collection: majority(collection).insert_one(document), lambda reply: True
    )


def forget_there(ids: Sequence[bytes]) -> Operation[Any]:
    """Record that sessions with these ids are not in the old engine any more."""
    gone = {"$unset": {"there_until": True}}
    return Operation(
        lambda collection: collection.update_many({"_id": {"$in": list(ids)}}, gone), unchanged
    )


def update(document_id: bytes, write_id: bytes, change: Mapping[str, Any]) -> Operation[bool]:
    """Change a session if that write was its last; return whether it was. Never an upsert."""
    wanted = documents.at_write(document_id, write_id)
    return Operation(
        lambda collection: collection.update_one(wanted, change),
        lambda reply: bool(reply.matched_count),
        joint=Update(document_id, write_id, change),
    )


def replace_with(document_id: bytes, write_id: bytes, marker: Mapping[str, Any]) -> Operation[bool]:
    """Replace a session with a marker if that write was its last; return whether it was."""
    return _replace(documents.at_write(document_id, write_id), marker)


def _replace(wanted: Mapping[str, Any], marker: Mapping[str, Any]) -> Operation[bool]:
    return Operation(
        lambda collection: majority(collection).replace_one(wanted, marker),
        lambda reply: bool(reply.matched_count),
    )


def occupy(marker: Mapping[str, Any]) -> Operation[bool]:
    """Put a marker at an id, whatever is there: a write that arrives later finds the id taken."""
    wanted = {"_id": marker["_id"]}
    return Operation(
        lambda collection: majority(collection).replace_one(wanted, marker, upsert=True),
        lambda reply: True,
    )


def bury(marker: Mapping[str, Any]) -> Operation[bool]:
    """Put a tombstone at an id; return whether there was a session.

    Raises DuplicateKeyError if a marker is there, which stays.
    """
    wanted = documents.not_marker(marker["_id"])
    return Operation(
        lambda collection: majority(collection).replace_one(wanted, marker, upsert=True),
        lambda reply: bool(reply.matched_count),
    )


def confirm(document_id: bytes, write_id: bytes) -> Operation[bool]:
    """Return whether the last write of a session or marker was that one, whose reply was lost.

    This is a write that changes nothing. When it is acknowledged, earlier writes are as durable as
    it is.
    """
    wanted = documents.at_write(document_id, write_id)
    same = {"$set": {"write_id": write_id}}
    return Operation(
        lambda collection: majority(collection).update_one(wanted, same),
        lambda reply: bool(reply.matched_count),
    )


def delete(document_id: bytes) -> Operation[bool]:
    """Delete a session, but not a marker; return whether it was there."""
    return _delete(documents.not_marker(document_id))


def delete_write(document_id: bytes, write_id: bytes) -> Operation[bool]:
    """Delete a session if that write was its last; return whether it was there."""
    return _delete(documents.at_write(document_id, write_id))


def _delete(wanted: Mapping[str, Any]) -> Operation[bool]:
    return Operation(
        lambda collection: majority(collection).delete_one(wanted),
        lambda reply: bool(reply.deleted_count),
    )


# The sessions of a user


def find_of_user(
    user_id: str,
    with_adopted: bool = False,
    fields: Mapping[str, bool] = documents.LISTED,
) -> Operation[list[dict[str, Any]]]:
    """Read the sessions of a user, without their payloads, also those that have expired."""
    wanted = documents.of_user(user_id)
    if with_adopted:
        fields = {**fields, "adopted": True}
    return Operation(lambda collection: _all(collection.find(wanted, fields)), unchanged)


def find_ids(ids: Sequence[bytes]) -> Operation[set[bytes]]:
    """Read which of these ids have a document, be it a session or a marker."""
    wanted = documents.with_ids(ids)
    return Operation(
        lambda collection: _all(collection.find(wanted, {"_id": True})),
        lambda reply: {each["_id"] for each in reply},
    )


def delete_of_user(user_id: str, ids: Sequence[bytes]) -> Operation[int]:
    """Delete those sessions with these ids that are a user's; return how many there were."""
    wanted = documents.some_of_user(user_id, ids)
    return Operation(
        lambda collection: majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
    )


def delete_last_seen(seen: Mapping[bytes, datetime]) -> Operation[int]:
    """Delete those sessions with these ids that were not seen since; return how many there were."""
    wanted = documents.last_seen(seen)
    return Operation(
        lambda collection: majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
    )


def bury_of_user(
    user_id: str, marker: Mapping[str, Any], seen_at: datetime | None = None
) -> Operation[bool]:
    """Replace a session of a user with a tombstone; return whether it was there.

    With `seen_at`, it is left alone if it was seen since.
    """
    wanted = {"_id": marker["_id"], **documents.of_user(user_id)}
    return _replace(wanted if seen_at is None else {**wanted, "seen_at": seen_at}, marker)


def signed_in_user_ids() -> Operation[list[str]]:
    """Read the ids of everybody who is signed in, in the index alone."""
    return Operation(
        lambda collection: collection.distinct("user_id", documents.SIGNED_IN),
        lambda reply: sorted(found for found in reply if isinstance(found, str)),
    )


def _all(cursor: Any) -> Any:
    return cursor.to_list() if hasattr(cursor, "to_list") else list(cursor)  # mongomock's has none


# The sessions of all users. Reading very many of them is slow, but a timeout is no outage then.


def find_signed_in(
    user_ids: Collection[str] | None, now: datetime, skip: int, limit: int
) -> Operation[list[dict[str, Any]]]:
    """Read the live sessions of these users, or of everybody, without their payloads.

    Those that expire last come first. The server sorts them. With a limit of 0, all are read.
    """
    wanted = documents.signed_in(user_ids, now)
    return Operation(
        lambda collection: _all(
            collection.find(wanted, documents.LISTED)
            .sort(documents.LAST_TO_EXPIRE_BY_ID)
            .skip(skip)
            .limit(limit)
        ),
        unchanged,
        counts=False,
    )


def find_signed_in_by_index(
    now: datetime, skip: int, limit: int
) -> Operation[list[dict[str, Any]]]:
    """See find_signed_in(): of everybody, in the order of the TTL index. Fails without that index.

    If the server chose the index, it might use another one for the next page, and return sessions
    that expire at the same moment in another order.
    """
    wanted = documents.signed_in(None, now)
    return Operation(
        lambda collection: _all(
            collection.find(wanted, documents.LISTED)
            .sort(documents.LAST_TO_EXPIRE)
            .hint(documents.TTL_INDEX.keys)
            .skip(skip)
            .limit(limit)
        ),
        unchanged,
        counts=False,
    )


def count_signed_in(user_ids: Collection[str] | None, limit: int) -> Operation[int]:
    """Count the sessions of these users, or of everybody, up to a limit, in the index alone.

    Sessions that have expired count until the TTL index has removed them.
    """
    wanted = documents.signed_in(user_ids)
    return Operation(
        lambda collection: collection.count_documents(wanted, limit=limit), int, counts=False
    )


# The collection and its server


def index_information() -> Operation[Mapping[str, Mapping[str, Any]]]:
    """Read the indexes of the collection, by name."""
    return Operation(lambda collection: collection.index_information(), unchanged)


def estimated_count() -> Operation[int]:
    """Read the number of documents from the collection's metadata, without a scan."""
    return Operation(lambda collection: collection.estimated_document_count(), unchanged)


def create_index(index: documents.Index) -> Operation[Any]:
    """Create an index; nothing happens if the same one exists.

    A majority of the members has to build it, and not all of them, since one may be down.
    """
    model = IndexModel(index.keys, name=index.name, **index.options)
    return Operation(
        lambda collection: collection.create_indexes([model], **_quorum(collection)),
        unchanged,
        timeout=MAINTENANCE_TIMEOUT,
    )


def within(operation: Operation[Answer], seconds: float) -> Operation[Answer]:
    """Return the operation with that time limit, for a request that can do without its result."""
    return replace(operation, timeout=seconds, counts=False)


def set_ttl(name: str, seconds: int) -> Operation[Any]:
    """Change after how many seconds an index removes a document.

    Before MongoDB 5.1 this works only for an index that is a TTL index already.
    """
    change = {"name": name, "expireAfterSeconds": seconds}
    return Operation(
        lambda collection: collection.database.command("collMod", collection.name, index=change),
        unchanged,
    )


def drop_index(name: str) -> Operation[None]:
    """Drop an index; the documents stay."""
    return Operation(lambda collection: collection.drop_index(name), unchanged)


def ping() -> Operation[Any]:
    """Find out whether a server replies."""
    return Operation(lambda collection: collection.database.command("ping"), unchanged)


def server_info() -> Operation[Mapping[str, Any]]:
    """Ask the server for its version, among other things."""
    return Operation(lambda collection: collection.database.client.server_info(), unchanged)


def unchanged(reply: Any) -> Any:
    return reply


def _quorum(collection: Any) -> dict[str, str]:
    """Return the option for the quorum of an index, which a server on its own does not accept."""
    topology = collection.database.client.topology_description
    if not isinstance(topology, TopologyDescription):  # mongomock has none
        return {}
    servers = topology.server_descriptions().values()
    has_members = any(
        server.replica_set_name or server.server_type_name == "Mongos" for server in servers
    )
    return {"commitQuorum": "majority"} if has_members else {}


def majority(collection: Any) -> Any:
    """Return the collection with majority writes: a sign-out must survive a failover."""
    given = collection.write_concern.document
    if given.get("w") == "majority":
        return collection
    return collection.with_options(write_concern=WriteConcern(**{**given, "w": "majority"}))
