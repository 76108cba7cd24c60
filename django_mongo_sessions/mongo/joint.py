"""What can be sent with others of its kind as one command, and the outcome of each.

A joint write is exact. A statement of an `update` command that has lost its race *fails*, because
the server reports errors one by one, but matched documents only as a total.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pymongo import InsertOne, UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    OperationFailure,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)
from pymongo.results import InsertOneResult, UpdateResult

from django_mongo_sessions.connection.errors import is_outage, was_not_begun
from django_mongo_sessions.storage import documents

# The reply to an operation, or its error. None: it is to be called alone.
Outcome = tuple[Any, Exception | None] | None
# Awaits what an asynchronous collection returns, and passes on what a blocking one has returned.
Settle = Callable[[Any], Awaitable[Any]]


@dataclass(slots=True)
class Find:
    """Read one document; None if there is none."""

    document_id: bytes

    is_write: ClassVar[bool] = False

    def fields(self) -> Mapping[str, Any]:
        """Return what counts as its size."""
        return {}

    @staticmethod
    async def together(finds: list[Find], collection: Any, settle: Settle) -> list[Outcome]:
        """Read the documents of these, and return one outcome for each."""
        wanted = {"_id": {"$in": list({each.document_id for each in finds})}}
        found = await settle(collection.find(wanted).to_list())
        by_id = {document["_id"]: document for document in found}
        return [(by_id.get(each.document_id), None) for each in finds]


@dataclass(slots=True)
class Insert:
    """Insert one document."""

    document: Mapping[str, Any]

    is_write: ClassVar[bool] = True

    @property
    def document_id(self) -> bytes:
        """The id of the document."""
        return self.document["_id"]  # type: ignore[no-any-return]

    def fields(self) -> Mapping[str, Any]:
        """Return what counts as its size."""
        return self.document

    @staticmethod
    async def together(inserts: list[Insert], collection: Any, settle: Settle) -> list[Outcome]:
        """Insert the documents of these, and return one outcome for each."""
        done = await _write(collection, [InsertOne(each.document) for each in inserts], settle)
        outcomes: list[Outcome] = [
            (InsertOneResult(each.document_id, True), None) for each in inserts
        ]
        for error in done["writeErrors"]:
            outcomes[error["index"]] = _outcome(error)
        return outcomes


@dataclass(slots=True)
class Update:
    """Change one document if that write was its last."""

    document_id: bytes
    write_id: bytes
    change: Mapping[str, Any]  # `$set`, and perhaps `$unset`

    is_write: ClassVar[bool] = True

    def fields(self) -> Mapping[str, Any]:
        """Return what counts as its size."""
        return self.change["$set"]  # type: ignore[no-any-return]

    @staticmethod
    async def together(updates: list[Update], collection: Any, settle: Settle) -> list[Outcome]:
        """Make the changes of these, and return one outcome for each."""
        statements = [
            UpdateOne(
                {"_id": each.document_id},
                documents.update_or_fail(each.write_id, each.change),
            )
            for each in updates
        ]
        done = await _write(collection, statements, settle)
        outcomes: list[Outcome] = [_MATCHED] * len(updates)
        for error in done["writeErrors"]:
            was_overtaken = documents.was_overtaken(error)
            outcomes[error["index"]] = _UNMATCHED if was_overtaken else _outcome(error)
        if not any(outcomes):
            refusal = OperationFailure(
                "all statements were refused", done["writeErrors"][0]["code"]
            )
            if was_not_begun(refusal):  # the server does not know such updates
                raise refusal
        if done["nMatched"] < outcomes.count(_MATCHED):
            await _find_missing(updates, outcomes, collection, settle)
        return outcomes


Joint = Find | Insert | Update

_WRITE_CONCERN_TIMEOUT = 64
_MATCHED: Outcome = UpdateResult({"n": 1}, True), None
_UNMATCHED: Outcome = UpdateResult({"n": 0}, True), None


async def _write(collection: Any, statements: list[Any], settle: Settle) -> Mapping[str, Any]:
    """Send statements as one command; return the counts and the errors of PyMongo's bulk API.

    Raises WriteConcernError if their durability is unknown. Then it is unknown for all of them.
    """
    try:
        done = (await settle(collection.bulk_write(statements, ordered=False))).bulk_api_result
    except BulkWriteError as error:
        done = error.details
    if unsure := done["writeConcernErrors"]:
        details = unsure[-1]
        kind = WTimeoutError if details.get("code") == _WRITE_CONCERN_TIMEOUT else WriteConcernError
        raise kind(details.get("errmsg", ""), details.get("code"), details)
    return done  # type: ignore[no-any-return]


def _outcome(error: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a statement that has failed: None, so that its own call tells why.

    If mongos has lost the connection to a shard, the statement may have been applied. Then the
    outcome is the error.
    """
    details = {name: value for name, value in error.items() if name != "op"}
    failure = WriteError(details.get("errmsg", ""), details.get("code"), details)
    return (None, failure) if is_outage(failure) else None


async def _find_missing(
    updates: list[Update], outcomes: list[Outcome], collection: Any, settle: Settle
) -> None:
    """Correct the outcomes of updates that seem to have matched, some of which have not.

    A document that is missing now was deleted before the update or after it: the session has ended
    either way. A document with this update's `write_id` was updated. A document with another one
    may have been inserted since, or overwritten. So its update counts as one whose reply was lost.
    """
    unsure = [index for index, outcome in enumerate(outcomes) if outcome is _MATCHED]
    wanted = {"_id": {"$in": [updates[index].document_id for index in unsure]}}
    try:
        found = await settle(collection.find(wanted, {"write_id": True}).to_list())
    except Exception as error:
        for index in unsure:
            outcomes[index] = None, lost_reply(type(error).__name__)
        return
    there = {document["_id"]: document.get("write_id") for document in found}
    for index in unsure:
        update = updates[index]
        if update.document_id not in there:
            outcomes[index] = _UNMATCHED
        elif there[update.document_id] != update.change["$set"].get("write_id", update.write_id):
            outcomes[index] = None, lost_reply("another write followed")


def lost_reply(reason: str) -> AutoReconnect:
    """Return the error of a write of which it is unknown whether it was applied."""
    return AutoReconnect(f"It is unknown whether a write was applied, sent with others: {reason}")
