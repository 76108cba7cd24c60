"""Every command that the engine sends to MongoDB, and what its reply means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bson.codec_options import DatetimeConversion
from pymongo import IndexModel, ReplaceOne, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError
from pymongo.topology_description import TopologyDescription

from django_mongo_sessions.mongo.joint import Find, Insert, Update
from django_mongo_sessions.mongo.runner import MAINTENANCE_TIMEOUT, Answer, Operation
from django_mongo_sessions.storage import documents

_DUPLICATE = 11000

# One session. Reads filter by `_id` alone, which MongoDB serves without a query plan: a filter on
# the date makes them a quarter slower. The date comes along and is checked in the reply. There is
# no projection, which would only leave out what `to_document()` returns.


def find(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """Read the document with an id, whatever it is; None if there is none."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}),
        _unchanged,
        joint=Find(document_id),
    )


def find_own_fields(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """See find(). The project's own fields are left out: one of them may not be decodable."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.PROJECTION),
        _unchanged,
    )


def find_marker(document_id: bytes) -> Operation[Mapping[str, Any] | None]:
    """Read the fields that a marker has of whatever has an id; None if there is nothing."""
    return Operation(
        lambda collection: collection.find_one({"_id": document_id}, documents.MARKER), _unchanged
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
        lambda collection: _majority(collection).insert_one(document), lambda reply: True
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
        lambda collection: _majority(collection).replace_one(wanted, marker),
        lambda reply: bool(reply.matched_count),
    )


def occupy(marker: Mapping[str, Any]) -> Operation[bool]:
    """Put a marker at an id, whatever is there: a write that arrives later finds the id taken."""
    wanted = {"_id": marker["_id"]}
    return Operation(
        lambda collection: _majority(collection).replace_one(wanted, marker, upsert=True),
        lambda reply: True,
    )


def bury(marker: Mapping[str, Any]) -> Operation[bool]:
    """Put a tombstone at an id; return whether there was a session.

    Raises DuplicateKeyError if a marker is there, which stays.
    """
    wanted = documents.not_marker(marker["_id"])
    return Operation(
        lambda collection: _majority(collection).replace_one(wanted, marker, upsert=True),
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
        lambda collection: _majority(collection).update_one(wanted, same),
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
        lambda collection: _majority(collection).delete_one(wanted),
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
    return Operation(lambda collection: _all(collection.find(wanted, fields)), _unchanged)


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
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
    )


def delete_last_seen(seen: Mapping[bytes, datetime]) -> Operation[int]:
    """Delete those sessions with these ids that were not seen since; return how many there were."""
    wanted = documents.last_seen(seen)
    return Operation(
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
    )


def bury_of_user(
    user_id: str, marker: Mapping[str, Any], seen_at: datetime | None = None
) -> Operation[bool]:
    """Replace a session of a user with a tombstone, and with a date only if it was not seen since.

    Returns whether it was there.
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


def count_by_user() -> Operation[dict[str, int]]:
    """Count the sessions of each user who is signed in: the most first. For blocking calls only."""
    return Operation(
        lambda collection: list(collection.aggregate(documents.COUNTS, allowDiskUse=True)),
        lambda reply: {
            each["_id"]: each["count"] for each in reply if isinstance(each["_id"], str)
        },
        timeout=MAINTENANCE_TIMEOUT,
    )


# The sessions of all users. To read very many is slow, and that is no outage.


def find_signed_in(
    user_ids: Collection[str] | None, now: datetime, skip: int, limit: int
) -> Operation[list[dict[str, Any]]]:
    """Read the live sessions of these users, or of everybody, without their payloads.

    Those that expire last come first. The server sorts them. A limit of 0 is none.
    """
    wanted = documents.signed_in(user_ids, now)
    return Operation(
        lambda collection: _all(
            collection.find(wanted, documents.LISTED)
            .sort(documents.LAST_TO_EXPIRE_BY_ID)
            .skip(skip)
            .limit(limit)
        ),
        _unchanged,
        counts=False,
    )


def find_signed_in_by_index(
    now: datetime, skip: int, limit: int
) -> Operation[list[dict[str, Any]]]:
    """See find_signed_in(): of everybody, in the order of the TTL index. Without that, it fails.

    With a choice, the server might take another plan for another page, in which sessions that
    expire at one moment have another order.
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
        _unchanged,
        counts=False,
    )


def count_signed_in(user_ids: Collection[str] | None, limit: int) -> Operation[int]:
    """Count the sessions of these users, or of everybody, up to a limit, in the index alone.

    Those count that have expired, and that the TTL index has not removed yet.
    """
    wanted = documents.signed_in(user_ids)
    return Operation(
        lambda collection: collection.count_documents(wanted, limit=limit), int, counts=False
    )


# Many sessions


_BATCH_BYTES = 32_000_000  # of payloads, after which a batch ends


def count_by_key(now: datetime, sample: int | None) -> Operation[dict[str | None, int]]:
    """Count live sessions by the key that encrypts them; None if none does. Blocking calls only."""
    pipeline = documents.counts_by_key(now, sample)
    return Operation(
        lambda collection: list(collection.aggregate(pipeline, allowDiskUse=True)),
        documents.counted_by_key,
    )


def find_not_encrypted_with(
    key_id: str, after: bytes | None, limit: int
) -> Operation[list[dict[str, Any]]]:
    """Read up to so many sessions that this key does not encrypt, in the order of ids.

    It reads fewer if they are large. Blocking calls only.
    """
    wanted = documents.not_encrypted_with(key_id, after)

    def call(collection: Any) -> Any:
        options = collection.codec_options.with_options(
            datetime_conversion=DatetimeConversion.DATETIME_AUTO  # one may be out of range
        )
        found = collection.with_options(options).find(wanted, documents.PROJECTION)
        batch: list[dict[str, Any]] = []
        size = 0
        with found.sort("_id", 1).limit(limit) as cursor:
            for document in cursor:
                batch.append(document)
                payload = document.get("payload")
                size += len(payload) if isinstance(payload, bytes) else 0
                if size > _BATCH_BYTES:
                    break
        return batch

    return Operation(call, _unchanged, timeout=MAINTENANCE_TIMEOUT)


def update_many(changes: Mapping[tuple[bytes, bytes], Mapping[str, Any]]) -> Operation[int]:
    """Change the sessions of which these writes are the last, by id and write; return how many."""
    requests = [UpdateOne(documents.at_write(*write), change) for write, change in changes.items()]
    return Operation(
        lambda collection: collection.bulk_write(requests, ordered=False),
        lambda reply: int(reply.matched_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_many(ids: Sequence[bytes]) -> Operation[list[dict[str, Any]]]:
    """Read the whole documents with these ids. For blocking calls only."""
    return Operation(
        lambda collection: list(collection.find({"_id": {"$in": ids}})),
        _unchanged,
        timeout=MAINTENANCE_TIMEOUT,
    )


def delete_writes(writes: Sequence[tuple[bytes, bytes]]) -> Operation[int]:
    """Delete the sessions of which these writes are the last, by id and write; return how many."""
    wanted = {"$or": [documents.at_write(*write) for write in writes]}
    return Operation(
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def insert_many(new: Sequence[Mapping[str, Any]]) -> Operation[dict[int, bool]]:
    """Insert sessions. For blocking calls only.

    Returns those that were not inserted, by their place: whether their id is taken, or MongoDB has
    refused them for another reason.
    """
    return Operation(
        lambda collection: _insert_each(_majority(collection), new),
        lambda reply: {error["index"]: _is_taken(error) for error in reply},
        timeout=MAINTENANCE_TIMEOUT,
    )


def _insert_each(collection: Any, new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Insert documents, and return the errors of single ones."""
    try:
        collection.insert_many(new, ordered=False)
    except BulkWriteError as error:
        if error.details["writeConcernErrors"]:
            raise
        return error.details["writeErrors"]  # type: ignore[no-any-return]
    return []


def _is_taken(error: Mapping[str, Any]) -> bool:
    return error.get("code") == _DUPLICATE and "_id" in error.get("keyPattern", {"_id": 1})


def forget_there(ids: Sequence[bytes]) -> Operation[Any]:
    """Record that sessions with these ids are not in the old engine any more."""
    gone = {"$unset": {"there_until": True}}
    return Operation(
        lambda collection: collection.update_many({"_id": {"$in": list(ids)}}, gone), _unchanged
    )


def find_copies(before: datetime, after: bytes, most: int) -> Operation[list[bytes]]:
    """Read the ids of unused copies that were made before a date, in the order of ids."""
    return _first_ids({**documents.unused_copies(before), "_id": {"$gt": after}}, most)


def delete_copies(before: datetime, ids: Sequence[bytes]) -> Operation[int]:
    """Delete those documents with these ids that are still unused; return how many there were."""
    wanted = {**documents.unused_copies(before), "_id": {"$in": ids}}
    return Operation(
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_adopted(after: bytes, most: int) -> Operation[list[bytes]]:
    """Read the ids of so many sessions that were adopted, in the order of ids."""
    return _first_ids(documents.adopted_after(after), most)


def _first_ids(wanted: Mapping[str, Any], most: int) -> Operation[list[bytes]]:
    return Operation(
        lambda collection: [
            found["_id"]
            for found in collection.find(wanted, {"_id": True}, sort=[("_id", 1)], limit=most)
        ],
        _unchanged,
        timeout=MAINTENANCE_TIMEOUT,
    )


def bury_many(
    markers: Sequence[Mapping[str, Any]], writes: Mapping[bytes, bytes] | None = None
) -> Operation[int]:
    """Replace sessions with markers; return how many there were. Blocking calls only.

    With `writes`, by id, only if these writes were their last.
    """
    requests = []
    for marker in markers:
        document_id = marker["_id"]
        wanted = (
            documents.not_marker(document_id)
            if writes is None
            else documents.at_write(document_id, writes[document_id])
        )
        requests.append(ReplaceOne(wanted, marker))
    return Operation(
        lambda collection: _majority(collection).bulk_write(requests, ordered=False),
        lambda reply: int(reply.matched_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_any(skip: int) -> Operation[bytes | None]:
    """Read the id of the session that many places further on, in the order of ids."""
    return Operation(
        lambda collection: collection.find_one(
            documents.any_up_to(None), {"_id": True}, sort=[("_id", 1)], skip=skip
        ),
        lambda reply: reply and reply["_id"],
        timeout=MAINTENANCE_TIMEOUT,
    )


def delete_any(up_to: bytes | None) -> Operation[int]:
    """Delete the sessions up to an id, or all; return how many there were."""
    wanted = documents.any_up_to(up_to)
    return Operation(
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_expired(now: datetime, after: bytes | None, skip: int) -> Operation[bytes | None]:
    """Read the id of the expired session that many places further on, in the order of ids."""
    wanted = documents.expired(now, after)
    return Operation(
        lambda collection: collection.find_one(wanted, {"_id": True}, sort=[("_id", 1)], skip=skip),
        lambda reply: reply and reply["_id"],
        timeout=MAINTENANCE_TIMEOUT,
    )


def delete_expired(now: datetime, after: bytes | None, up_to: bytes | None) -> Operation[int]:
    """Delete the expired sessions in a range of ids; return how many there were."""
    wanted = documents.expired(now, after, up_to)
    return Operation(
        lambda collection: _majority(collection).delete_many(wanted),
        lambda reply: reply.deleted_count,
        timeout=MAINTENANCE_TIMEOUT,
    )


# The collection and its server


def index_information() -> Operation[Mapping[str, Mapping[str, Any]]]:
    """Read the indexes of the collection, by name."""
    return Operation(lambda collection: collection.index_information(), _unchanged)


def estimated_count() -> Operation[int]:
    """Read the number of documents from the collection's metadata, without a scan."""
    return Operation(lambda collection: collection.estimated_document_count(), _unchanged)


def create_index(index: documents.Index) -> Operation[Any]:
    """Create an index; nothing happens if the same one exists.

    A majority of the members has to build it, and not all of them, since one may be down.
    """
    model = IndexModel(index.keys, name=index.name, **index.options)
    return Operation(
        lambda collection: collection.create_indexes([model], **_quorum(collection)),
        _unchanged,
        timeout=MAINTENANCE_TIMEOUT,
    )


def within(operation: Operation[Answer], seconds: float) -> Operation[Answer]:
    """Return an operation that a request can do without, and so has little time for."""
    return replace(operation, timeout=seconds, counts=False)


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


def server_info() -> Operation[Mapping[str, Any]]:
    """Ask the server for its version, among other things."""
    return Operation(lambda collection: collection.database.client.server_info(), _unchanged)


def _unchanged(reply: Any) -> Any:
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


def _majority(collection: Any) -> Any:
    """Return the collection with majority writes: a sign-out must survive a failover."""
    given = collection.write_concern.document
    if given.get("w") == "majority":
        return collection
    return collection.with_options(write_concern=WriteConcern(**{**given, "w": "majority"}))
