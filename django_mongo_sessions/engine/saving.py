"""Save, mutate, create and touch a session.

No update is lost: each write names the write that it replaces. If another request was faster, what
it has stored is merged, and the write is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from inspect import iscoroutine
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions.connection.errors import may_have_applied
from django_mongo_sessions.engine import loading, mapping
from django_mongo_sessions.engine.session import Content, Snapshot, TrackedSession, Write
from django_mongo_sessions.mongo import indexes, operations, writes
from django_mongo_sessions.mongo.runner import Steps
from django_mongo_sessions.storage import dates, documents

Result = TypeVar("Result")
Change = Callable[[dict[str, Any]], Result]

logger = logging.getLogger("django_mongo_sessions")

_NEW_KEY_ATTEMPTS = 8


def save(session: TrackedSession, must_create: bool = False) -> Steps[None]:
    """Store the session, merged with what other requests have stored since it was loaded."""
    if session.session_key is None:
        yield from create(session)
        return
    data = yield from loading.data(session, no_load=must_create)
    if must_create:
        ours = session._content(data)
        yield from _insert(session, [session.session_key] * 2, ours, ours)
        return
    stored = session._baseline or (yield from loading.reread(session))
    ours = session._content()
    if stored and stored.holds(ours) and session._wrote_recently():
        return
    yield from _store(session, stored, None, ours)


def mutate(session: TrackedSession, change: Change[Result]) -> Steps[Result | None]:
    """Store what the function makes of the session; repeat it if another request was faster."""
    data = yield from loading.data(session)
    if session.session_key is None:
        result, content = _apply(session, change, session._content(data))
        yield from create(session, content)
        return result
    stored = yield from loading.reread(session)
    result = yield from _store(session, stored, change)
    return result


def _store(
    session: TrackedSession,
    stored: Snapshot | None,
    change: Change[Result] | None,
    ours: Content | None = None,
) -> Steps[Result | None]:
    """Tidy up, then compare and set."""
    if session._known.strays or session._known.unfinished_move:
        yield from tidy_up(session)
        ours = None
    return (yield from _compare_and_set(session, stored, change, ours))


def _compare_and_set(
    session: TrackedSession,
    stored: Snapshot | None,
    change: Change[Result] | None,
    ours: Content | None = None,
) -> Steps[Result | None]:
    """Compare and set until no other request was faster.

    `stored` is the newest that is known of the stored session. Each attempt begins with the session
    in memory as it is then: another task may have changed it.
    """
    pauses = writes.backoff()
    while True:
        baseline = session._baseline
        if baseline is None or stored is None:
            raise UpdateError("The session was deleted.")
        ours = ours or session._content(baseline.data)
        if stored.readable:
            result, content = _apply(session, change, session._merged(baseline, stored, ours))
            update, expected = mapping.update(session, stored, content)
            write = Write(baseline, stored, ours, content, expected)
            session._begin(write)
            if change is not None:
                session.modified = True  # so that the cookie's expiry moves with the document's
            if (yield from writes.update(*_target(stored), update)):
                session._acknowledge(write)
                return result
            session._withdraw(write)
        else:
            # An unreadable document is kept: another host may hold its key, or it may be evidence
            # of tampering. So the session gets a new key.
            result, content = _apply(session, change, ours)
            if content.data and content.body != baseline.body:
                yield from create(session, content)
            return result
        yield next(pauses)
        stored, ours = (yield from loading.reread(session)), None


def _target(stored: Snapshot) -> tuple[bytes, bytes, int]:
    return stored.document_id, stored.write_id, stored.revision


def _apply(
    session: TrackedSession, change: Change[Result] | None, content: Content
) -> tuple[Result | None, Content]:
    """Return the function's result, and what it makes of a copy of the content as stored."""
    if change is None:
        return None, content
    data = session._load(content.body)
    result = change(data)
    if iscoroutine(result):
        result.close()
        raise TypeError(
            "mutate() needs a function without I/O, since it may run more than once, and "
            f"{change!r} is asynchronous. Await what it needs first."
        )
    return result, session._content(data)


def create(session: TrackedSession, content: Content | None = None) -> Steps[None]:
    """Store the session, or this content of it, under a new key."""
    data = yield from loading.data(session, no_load=True)
    ours = session._content(data)
    yield from _insert(session, new_keys(session), ours, content or ours)


def _insert(
    session: TrackedSession, keys: Iterable[str | None], ours: Content, content: Content
) -> Steps[None]:
    """Store a new session under the first key that is free, and take over that key."""
    expected = yield from insert(session, keys, content, session._baseline)
    session._inserted(expected, ours, content)
    yield from indexes.ensure_once()


def insert(
    session: TrackedSession,
    keys: Iterable[str | None],
    content: Content,
    origin: Snapshot | None = None,
) -> Steps[Snapshot]:
    """Insert a document under the first key that is free, and return its snapshot.

    It is a stray until the session takes over its key. `origin` is the session under its old key,
    if it moves.
    """
    yield from take_back(session)
    for key in keys:
        document_id = documents.document_id(key)
        if key is None or document_id is None:
            continue
        document, expected = mapping.new(session, key, document_id, content, origin)
        session._expect_stray(expected)
        try:
            if (yield from writes.insert(document)):
                return expected
            yield from take_back(session)  # another key is tried, since it may arrive yet
        except PyMongoError as error:
            if not may_have_applied(error):
                session._forget_stray(document_id)
            if _is_taken(error):
                continue
            raise
        except UpdateError:  # flushed since
            yield from take_back(session)
            raise
    raise CreateError("Every session key that was tried is taken, or is not one of this engine's.")


def _is_taken(error: PyMongoError) -> bool:
    """Return whether a key is taken: a unique index of the project's would refuse any other too."""
    if not isinstance(error, DuplicateKeyError):
        return False
    return "_id" in (error.details or {}).get("keyPattern", "_id")


def new_keys(session: TrackedSession) -> Iterable[str]:
    """Yield random session keys to try."""
    return (session._get_new_session_key() for _ in range(_NEW_KEY_ATTEMPTS))


def tidy_up(session: TrackedSession) -> Steps[None]:
    """Finish what earlier calls could not, since a reply was lost or nobody waited for it."""
    yield from take_back(session)
    yield from _finish_move(session)


def _finish_move(session: TrackedSession) -> Steps[None]:
    """Put a pointer in the place of the old document, if it is not known to be there.

    What another request has stored under the old key since is first stored under the new one.
    """
    pauses = writes.backoff()
    while move := session._known.unfinished_move:
        old, new_id = move.old, documents.document_id(session.session_key) or b""
        marker = mapping.pointer(old, new_id, move.pointer)
        if (yield from writes.move(old.document_id, old.write_id, marker)):
            break
        if (yield operations.confirm(old.document_id, move.pointer)):  # it was there already
            break
        newest = yield from loading.find(session, old.key)
        was_signed_out = newest is None and old.user_id is not None
        # Later the pointer may have been there and have expired.
        if was_signed_out and time.monotonic() - move.began < documents.MARKER_AGE / 2:
            yield from writes.delete(new_id)
            raise UpdateError("The session was deleted.")
        if newest is None or not newest.readable:
            break
        session._bring_along(move, newest)
        yield from _compare_and_set(session, session._baseline, None)
        yield next(pauses)
    session._finish_move()


def take_back(session: TrackedSession, and_own: bool = False) -> Steps[None]:
    """Remove the documents that may be stored under keys that nobody has.

    If one is not there, its insert may be on its way, so a marker takes its place. But the id of
    the session's own key stays free, to insert it anew, unless it is to be removed too.
    """
    own_id = documents.document_id(session.session_key)
    for document_id, write_id in list(session._known.strays.items()):
        there = yield operations.delete_write(document_id, write_id)
        if not there and (and_own or document_id != own_id):
            marker = documents.marker(document_id, documents.new_write_id(), dates.utc_now())
            yield from writes.occupy(marker)
        session._forget_stray(document_id)


def touch(session: TrackedSession) -> Steps[bool]:
    """Move the expiry of a session that was only read; return whether that was done.

    It is not done if another request has written the session since, and so has moved it, or if the
    session is gone. If MongoDB fails, that is logged and not raised: a later request tries again.
    """
    stored = session._baseline
    if stored is None or stored.cleared or not stored.readable:
        return False
    # To seal the session with the current key, its data as stored: it may have unsaved changes.
    data = stored.data if stored.sealed_with_current_key else session._load(stored.body)
    content = Content(data, stored.body)
    update, expected = mapping.update(session, stored, content)
    try:
        moved = yield from writes.update(*_target(stored), update)
    except PyMongoError as error:
        logger.warning("The expiry of a session that was read could not be moved: %s", error)
        return False
    if moved:
        expected = expected._replace(data=stored.data)
        session._acknowledge(Write(stored, stored, content, content, expected))
    return moved
