"""The commands about many sessions at once: cleanup, import, encryption, sign-out of everybody.

No request waits for them, so they may take MAINTENANCE_TIMEOUT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from django_mongo_sessions.mongo.operations import majority, unchanged
from django_mongo_sessions.mongo.runner import MAINTENANCE_TIMEOUT, Operation
from django_mongo_sessions.storage import documents

_DUPLICATE = 11000
_BATCH_BYTES = 32_000_000  # of payloads, after which a batch ends


def count_by_user() -> Operation[dict[str, int]]:
    """Count the sessions of each user who is signed in: the most first. For blocking calls only."""
    return Operation(
        lambda collection: list(collection.aggregate(documents.COUNTS, allowDiskUse=True)),
        lambda reply: {
            each["_id"]: each["count"] for each in reply if isinstance(each["_id"], str)
        },
        timeout=MAINTENANCE_TIMEOUT,
    )


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
    """Read up to `limit` sessions that this key does not encrypt, in the order of ids.

    It reads fewer if they are large. Blocking calls only.
    """
    wanted = documents.not_encrypted_with(key_id, after)

    def call(collection: Any) -> Any:
        found = collection.find(wanted, documents.PROJECTION)
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

    return Operation(call, unchanged, timeout=MAINTENANCE_TIMEOUT)


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
        unchanged,
        timeout=MAINTENANCE_TIMEOUT,
    )


def delete_writes(writes: Sequence[tuple[bytes, bytes]]) -> Operation[int]:
    """Delete the sessions of which these writes are the last, by id and write; return how many."""
    wanted = {"$or": [documents.at_write(*write) for write in writes]}
    return Operation(
        lambda collection: majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def insert_many(new: Sequence[Mapping[str, Any]]) -> Operation[dict[int, bool]]:
    """Insert sessions. For blocking calls only.

    Returns those that were not inserted, by their place: True if the id is taken, and False if
    MongoDB has refused the document for another reason.
    """
    return Operation(
        lambda collection: _insert_each(majority(collection), new),
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


def find_copies(before: datetime, after: bytes, most: int) -> Operation[list[bytes]]:
    """Read up to `most` ids of unused copies that were made before a date, in the order of ids."""
    return _first_ids({**documents.unused_copies(before), "_id": {"$gt": after}}, most)


def delete_copies(before: datetime, ids: Sequence[bytes]) -> Operation[int]:
    """Delete those documents with these ids that are still unused; return how many there were."""
    wanted = {**documents.unused_copies(before), "_id": {"$in": ids}}
    return Operation(
        lambda collection: majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_adopted(after: bytes, most: int) -> Operation[list[bytes]]:
    """Read the ids of up to `most` sessions that were adopted, in the order of ids."""
    return _first_ids(documents.adopted_after(after), most)


def _first_ids(wanted: Mapping[str, Any], most: int) -> Operation[list[bytes]]:
    return Operation(
        lambda collection: [
            found["_id"]
            for found in collection.find(wanted, {"_id": True}, sort=[("_id", 1)], limit=most)
        ],
        unchanged,
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
        lambda collection: majority(collection).bulk_write(requests, ordered=False),
        lambda reply: int(reply.matched_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_any(skip: int) -> Operation[bytes | None]:
    """Read the id of the session after the first `skip` ones, in the order of ids."""
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
        lambda collection: majority(collection).delete_many(wanted),
        lambda reply: int(reply.deleted_count),
        timeout=MAINTENANCE_TIMEOUT,
    )


def find_expired(now: datetime, after: bytes | None, skip: int) -> Operation[bytes | None]:
    """Read the id of the expired session after the first `skip` ones, in the order of ids."""
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
        lambda collection: majority(collection).delete_many(wanted),
        lambda reply: reply.deleted_count,
        timeout=MAINTENANCE_TIMEOUT,
    )
