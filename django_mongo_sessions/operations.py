"""What we ask MongoDB, and what its replies mean. No I/O of its own happens here.

An `Operation` is one awaitable call on a collection and how to read its reply. A verb is a
generator that yields operations and is sent their answers; `run` and `arun` do the calls. They
serve both colours because `Collection` and `AsyncCollection` bear the same method names.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import pymongo
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from django_mongo_sessions import documents

Answer = TypeVar("Answer")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Operation(Generic[Answer]):
    """One awaitable call on a collection, and how to read its reply."""

    call: Callable[[Any], Any]
    read: Callable[[Any], Answer]


Verb = Generator[Operation[Any], Any, Result]


# Drivers


def run(verb: Verb[Result], sessions: Any, timeout: float | None) -> Result:
    """Drive a verb with blocking calls on a collection, and return what the verb returns.

    `timeout` is in seconds, for each operation; None leaves it to the client. PyMongo's errors
    are thrown into the verb, which lets through those that it does not expect.
    """
    step: Callable[[Any], Operation[Any]] = verb.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            try:
                with _deadline(timeout):
                    reply = operation.call(sessions)
            except PyMongoError as error:
                step, argument = verb.throw, error
            else:
                step, argument = verb.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun(verb: Verb[Result], sessions: Any, timeout: float | None) -> Result:
    """See run(). The collection is an asynchronous one."""
    step: Callable[[Any], Operation[Any]] = verb.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            try:
                with _deadline(timeout):
                    reply = await operation.call(sessions)
            except PyMongoError as error:
                step, argument = verb.throw, error
            else:
                step, argument = verb.send, operation.read(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _deadline(seconds: float | None) -> AbstractContextManager[None]:
    # pymongo.timeout(None) would lift a limit that the caller has set outside.
    return nullcontext() if seconds is None else pymongo.timeout(seconds)


# One session


def find(document_id: bytes, now: datetime) -> Operation[Mapping[str, Any] | None]:
    """Read a live session's document, None where there is none."""
    wanted = documents.live(document_id, now)
    return Operation(lambda sessions: sessions.find_one(wanted, documents.PROJECTION), _as_it_is)


def exists(document_id: bytes, now: datetime) -> Operation[bool]:
    """Ask whether a live session is there."""
    wanted = documents.live(document_id, now)
    return Operation(
        lambda sessions: sessions.find_one(wanted, {"_id": True}), lambda reply: reply is not None
    )


def insert(document: Mapping[str, Any]) -> Operation[None]:
    """Store a new session; DuplicateKeyError where its id is taken."""
    return Operation(lambda sessions: sessions.insert_one(document), lambda reply: None)


def update(document_id: bytes, revision: int, change: Mapping[str, Any]) -> Operation[bool]:
    """Change a session if nobody has since that revision, and answer whether. Never an upsert."""
    wanted = documents.revised(document_id, revision)
    return Operation(
        lambda sessions: sessions.update_one(wanted, change),
        lambda reply: bool(reply.matched_count),
    )


def delete(document_id: bytes) -> Operation[bool]:
    """Delete a session, whatever its revision, and answer whether it was there."""
    return Operation(
        lambda sessions: _durable(sessions).delete_one({"_id": document_id}),
        lambda reply: bool(reply.deleted_count),
    )


# Many sessions


def find_expired(now: datetime, after: bytes | None, skip: int) -> Operation[bytes | None]:
    """Read the id of an expired session, so many further on in the order of ids."""
    wanted = documents.expired(now, after)
    return Operation(
        lambda sessions: sessions.find_one(wanted, {"_id": True}, sort=[("_id", 1)], skip=skip),
        lambda reply: reply and reply["_id"],
    )


def delete_expired(now: datetime, after: bytes | None, up_to: bytes | None) -> Operation[int]:
    """Delete the expired sessions in a range of ids, and answer how many they were."""
    wanted = documents.expired(now, after, up_to)
    return Operation(
        lambda sessions: _durable(sessions).delete_many(wanted), lambda reply: reply.deleted_count
    )


# Indexes


def index_information() -> Operation[Mapping[str, Mapping[str, Any]]]:
    """Read what indexes there are, by name."""
    return Operation(lambda sessions: sessions.index_information(), _as_it_is)


def estimated_count() -> Operation[int]:
    """Ask for the number of documents as the server remembers it: no scan."""
    return Operation(lambda sessions: sessions.estimated_document_count(), _as_it_is)


def create_index(index: documents.Index) -> Operation[str]:
    """Create an index; nothing happens where the very same is there."""
    return Operation(
        lambda sessions: sessions.create_index(index.keys, name=index.name, **index.options),
        _as_it_is,
    )


def _as_it_is(reply: Any) -> Any:
    return reply


def _durable(sessions: Any) -> Any:
    """Return the collection with majority writes: a sign-out must survive a failover."""
    given = sessions.write_concern.document
    if given.get("w") == "majority":
        return sessions
    return sessions.with_options(write_concern=WriteConcern(**{**given, "w": "majority"}))
