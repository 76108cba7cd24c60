"""Delete one session, or all that have expired."""

from __future__ import annotations

from django_mongo_sessions.conf import conf
from django_mongo_sessions.engine import adopting, loading, mapping, predecessors, saving
from django_mongo_sessions.engine.session import TrackedSession
from django_mongo_sessions.mongo import bulk, operations, writes
from django_mongo_sessions.mongo.runner import Overridden, Steps
from django_mongo_sessions.storage import dates, documents

_CLEAR_ATTEMPTS = 3
EXPIRED_BATCH = 1_000  # documents; deleting them takes tens of milliseconds


def delete(session: TrackedSession, session_key: str | None = None) -> Steps[None]:
    """Delete this session or another, and follow it to where it has moved.

    A former key of this session is not followed, because that would end the session itself.
    """
    key, name = session.session_key if session_key is None else session_key, None
    if session_key is not None and conf.PREDECESSOR is not None:
        key, name = predecessors.translated(session_key)
    was_born_here = session._was_born_here(key)
    if key == session.session_key:
        session._forget_last_write()  # or the next save would assume that it still exists
    document_id = documents.document_id(key)
    move = session._known.unfinished_move
    if move is not None and document_id == move.old.document_id:
        yield from saving.finish_move(session)
        return
    if document_id in session._known.left and key != session.session_key:
        yield from adopting.remove(document_id)
    else:
        yield from _delete(document_id, was_born_here)
    if document_id is not None and key is not None and not was_born_here:
        yield from adopting.delete_there(name or session._name_elsewhere(key))


def end(session_key: str) -> Steps[bool]:
    """Delete the session of a cookie, wherever it has moved; return whether there was one."""
    if conf.PREDECESSOR is None:
        return (yield from _delete(documents.document_id(session_key)))
    key, name = predecessors.translated(session_key)
    document_id = documents.document_id(key)
    was_here = yield from _delete(document_id)
    if document_id is None:
        return False
    was_there = yield from adopting.is_there(name)  # if it fails, it has ended here all the same
    yield from adopting.delete_there(name)
    return was_here or was_there


def _delete(document_id: bytes | None, was_born_here: bool = False) -> Steps[bool]:
    """Delete what is stored at an id, or where that has moved; return whether there was a session.

    What the old engine never had needs no tombstone: it has no session under a new key either.
    """
    for _ in range(loading.MAX_MOVES):
        if document_id is None:
            break
        remove = writes.delete if was_born_here else adopting.remove
        if (yield from remove(document_id)):
            return True
        was_born_here = True
        document_id = yield from loading.target(document_id)
    return False


def flush(session: TrackedSession) -> Steps[None]:
    """Delete the session and every document that this store has left, and begin an empty one."""
    session._begin_flush()
    if session._overrides("delete"):
        yield Overridden(session, "delete")
    else:
        yield from delete(session)
    yield from saving.take_back(session, and_own=True)
    for document_id, pointer in session._known.left.items():
        # While there is an old engine, a pointer stays: it may have to keep the id.
        if (
            pointer is None
            or conf.PREDECESSOR is not None
            or not (yield operations.delete_write(document_id, pointer))
        ):
            yield from _delete(document_id)
    session._flushed()


def clear_all() -> Steps[int]:
    """Delete every session, in batches; return how many there were.

    It starts again a few times, since a session may have moved to a key that was passed already. No
    signal is sent, because the sessions are not read.
    """
    yield operations.ping()
    total = 0
    for _ in range(_CLEAR_ATTEMPTS):
        count = yield from _clear_all()
        total += count
        if not count:
            break
    return total


def _clear_all() -> Steps[int]:
    count = 0
    if predecessors.needs_tombstones():  # or what the old engine has would be adopted again
        count += yield from _bury_adopted()
    while True:
        edge = yield bulk.find_any(skip=EXPIRED_BATCH - 1)
        removed: int = yield bulk.delete_any(up_to=edge)
        count += removed
        if edge is None:
            return count


def _bury_adopted() -> Steps[int]:
    count, after = 0, b""
    while found := (yield bulk.find_adopted(after, EXPIRED_BATCH)):
        after = found[-1]
        count += yield bulk.bury_many([mapping.tombstone(each) for each in found])
    return count


def clear_expired() -> Steps[int]:
    """Delete the sessions that have expired, in batches; return how many there were.

    The batches are ranges of ids, since any number of sessions may expire in one millisecond.
    """
    yield operations.ping()
    now, after, count = dates.utc_now(), None, 0
    while True:
        edge = yield bulk.find_expired(now, after, skip=EXPIRED_BATCH - 1)
        removed: int = yield bulk.delete_expired(now, after, up_to=edge)
        count += removed
        if edge is None:
            return count
        after = edge
