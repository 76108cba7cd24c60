"""Perform each write exactly once, even if the server's reply is lost.

Every payload is stored under a `write_id` of its own, and each write names the one that it
replaces. So a repeated write is applied once, whichever of its copies arrives first, and it is
recognized by its `write_id` for as long as it is the last write.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions.connection.errors import may_have_applied, reply_was_lost
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Operation, Steps, Wait
from django_mongo_sessions.storage import documents

_MAX_ATTEMPTS = 200
# Seconds. If many tasks of one event loop race for a large session, shorter pauses let each of them
# be overtaken again: 32 requests at once took twice as long with 0.004 and 0.25.
_FIRST_DELAY, _LONGEST_DELAY = 0.032, 1.0


def backoff() -> Iterator[Wait]:
    """Yield exponential backoff delays with full jitter.

    Raises SessionConflict after 200 attempts.
    """
    for attempt in range(_MAX_ATTEMPTS - 1):
        yield Wait(random.uniform(0, min(_LONGEST_DELAY, _FIRST_DELAY * 2**attempt)))
    raise SessionConflict(
        f"The session was not stored: other requests were faster in all {_MAX_ATTEMPTS} attempts."
    )


def insert(document: Mapping[str, Any], is_adopted: bool = False) -> Steps[bool]:
    """Insert a document; raise DuplicateKeyError if its id is taken.

    An adopted session will be deleted in the old engine, so a majority has to acknowledge it.
    Returns False if the reply was lost and the document is not there. The insert is not repeated:
    the first attempt may arrive at any time, even after the session was deleted again.
    """
    write = operations.adopt if is_adopted else operations.insert
    try:
        return bool((yield write(document)))
    except PyMongoError as error:
        if not reply_was_lost(error):
            raise
        lost = error
    return (yield from _after(lost, operations.confirm(document["_id"], document["write_id"])))


def update(
    document_id: bytes, write_id: bytes, revision: int, change: Mapping[str, Any]
) -> Steps[bool]:
    """Change a document if that write, of that revision, was its last; return whether it was.

    If the reply is lost and other requests have written since, it may be unknown whether this write
    was applied before theirs. Then the error of the lost reply is raised.
    """
    write = operations.update(document_id, write_id, change)
    new_id = change["$set"].get("write_id")
    done, lost = yield from _once(write, document_id, new_id)
    if not done and new_id is not None and lost is not None:
        newest = yield operations.find_marker(document_id)
        # A single write since is another request's, which this one can no longer replace.
        if newest is not None and documents.writes_since(newest, revision) > 1:
            raise lost
    return done


def move(document_id: bytes, write_id: bytes, marker: Mapping[str, Any]) -> Steps[bool]:
    """Replace a document with a marker if that write was its last; return whether it was."""
    write = operations.replace_with(document_id, write_id, marker)
    done, _ = yield from _once(write, document_id, marker["write_id"])
    return done


def delete(document_id: bytes) -> Steps[bool]:
    """Delete a document that is not a marker; return whether it was there.

    If a reply was lost and the document is gone, it returns False.
    """
    done, _ = yield from _once(operations.delete(document_id))
    return done


def bury(marker: Mapping[str, Any]) -> Steps[bool]:
    """Put a tombstone at an id, so that no session is adopted there; a marker there stays.

    Returns whether there was a session.
    """
    while True:
        try:
            done, _ = yield from _once(operations.bury(marker), marker["_id"], marker["write_id"])
            return done
        except DuplicateKeyError:
            there = yield operations.find_marker(marker["_id"])
            if there is not None and documents.is_marker(there):
                return False
            # A session was stored at the same moment, and is replaced now.


def occupy(marker: Mapping[str, Any]) -> Steps[None]:
    """Put a marker at an id, so that a write on its way there will not be applied."""
    write = operations.occupy(marker)
    try:
        yield from _once(write)
    except DuplicateKeyError:  # a write arrived at the same moment, and is replaced now
        yield write


def _once(
    write: Operation[bool], document_id: bytes = b"", write_id: bytes | None = None
) -> Steps[tuple[bool, PyMongoError | None]]:
    """Do a write. If its reply is lost, find out by its `write_id` whether it was applied; if not,
    repeat it.

    Without a `write_id`, repeating it does no harm. Returns whether it was applied, and the error
    if the reply was lost.
    """
    try:
        return bool((yield write)), None
    except PyMongoError as error:
        if not reply_was_lost(error):
            raise
        lost = error
    if write_id is None:
        return bool((yield write)), lost
    look = operations.confirm(document_id, write_id)
    if (yield from _after(lost, look)) or (yield from _after(lost, write)):
        return True, lost
    # The first attempt may have arrived after the first look.
    return (yield from _after(lost, look)), lost


def _after(lost: PyMongoError, operation: Operation[bool]) -> Steps[bool]:
    """Do an operation after a write whose reply was lost.

    If it fails without effect, it raises the error of that write, which may have been applied.
    """
    try:
        return bool((yield operation))
    except PyMongoError as error:
        if may_have_applied(error):
            raise
        raise lost from error
