"""Delete one session, or all that have expired."""

from __future__ import annotations

from django_mongo_sessions.engine.session import TrackedSession
from django_mongo_sessions.mongo import operations, writes
from django_mongo_sessions.mongo.runner import Steps
from django_mongo_sessions.storage import dates, documents

EXPIRED_BATCH = 1_000  # documents; deleting them takes tens of milliseconds


def delete(
    session: TrackedSession, session_key: str | None = None, revision: int | None = None
) -> Steps[bool]:
    """Delete this session or another; return whether it was there.

    With a revision, delete it only if it is still at that one.
    """
    key = session.session_key if session_key is None else session_key
    document_id = documents.document_id(key)
    if document_id is None:
        return False
    if key == session.session_key:
        session._forget_last_write()  # or the next save would assume that it still exists
    return (yield from writes.delete(document_id, revision))


def flush(session: TrackedSession) -> Steps[None]:
    """Delete the session, and begin an empty one without a key."""
    session.clear()
    yield from delete(session)
    session._flushed()


def clear_expired() -> Steps[int]:
    """Delete the sessions that have expired, in batches; return how many there were.

    The batches are ranges of ids, since any number of sessions may expire in one millisecond.
    """
    yield operations.ping()
    now, after, count = dates.utc_now(), None, 0
    while True:
        edge = yield operations.find_expired(now, after, skip=EXPIRED_BATCH - 1)
        removed: int = yield operations.delete_expired(now, after, up_to=edge)
        count += removed
        if edge is None:
            return count
        after = edge
