"""Perform each write exactly once, even if the server's reply is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions.connection.errors import reply_was_lost
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Operation, Steps, Wait

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


def insert(document: Mapping[str, Any]) -> Steps[bool]:
    """Insert a document; raise DuplicateKeyError if its id is taken."""
    return _once(operations.insert(document), document["_id"], 0, document)


def update(
    document_id: bytes, revision: int, change: Mapping[str, Any], new_revision: int
) -> Steps[bool]:
    """Change a document if it is still at the revision; return whether it was.

    `new_revision` is the one that the change leaves behind.
    """
    write = operations.update(document_id, revision, change)
    return _once(write, document_id, new_revision, change["$set"])


def _once(
    write: Operation[bool], document_id: bytes, revision: int, fields: Mapping[str, Any]
) -> Steps[bool]:
    """Do a write. If its reply is lost, look whether it was applied, and repeat it if not."""
    try:
        return bool((yield write))
    except PyMongoError as error:
        if not reply_was_lost(error):
            raise
    look = operations.confirm(document_id, revision, fields)
    if (yield look):
        return True
    try:
        return bool((yield write))
    except DuplicateKeyError:  # the first attempt may have arrived after the look
        if not (yield look):
            raise
        return True


def delete(document_id: bytes, revision: int | None = None) -> Steps[bool]:
    """Delete a document, only at the revision if one is given; return whether it was there."""
    write = operations.delete(document_id, revision)
    try:
        return bool((yield write))
    except PyMongoError as error:
        if not reply_was_lost(error):
            raise
        try:
            # Deleted before the connection broke, or now. Or another request has signed out in
            # these milliseconds, which looks the same.
            return (yield write) or (yield operations.find_whole(document_id)) is None
        except PyMongoError:
            raise error from None  # nothing more is known than before
