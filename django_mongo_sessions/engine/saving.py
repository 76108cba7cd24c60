"""Save, mutate, create and touch a session.

No update is lost: each write names the write that it replaces. If another request was faster, what
it has stored is merged, and the write is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from inspect import iscoroutine
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import PyMongoError

from django_mongo_sessions.connection.errors import id_is_taken, may_have_applied
from django_mongo_sessions.engine import adopting, loading, mapping, signed_in
from django_mongo_sessions.engine.session import Content, Snapshot, TrackedSession, Write
from django_mongo_sessions.mongo import indexes, operations, writes
from django_mongo_sessions.mongo.runner import Overridden, Steps
from django_mongo_sessions.storage import dates, documents

Result = TypeVar("Result")
Change = Callable[[dict[str, Any]], Result]

logger = logging.getLogger("django_mongo_sessions")

_NEW_KEY_ATTEMPTS = 8
_GIVEN_KEY_ATTEMPTS = 2  # a lost insert that was not applied is tried once more


def save(session: TrackedSession, must_create: bool = False) -> Steps[None]:
    """Store the session, merged with what other requests have stored since it was loaded."""
    if session.session_key is None:
        yield from create_new(session)
        return
    data = yield from loading.data(session, no_load=must_create)
    if must_create:
        ours = session._content(data)
        yield from _insert(session, session.session_key, ours, ours)
        return
    stored = session._baseline or (yield from loading.reread(session))
    ours = session._content()
    if stored and (yield from _is_just_written(session, stored, ours)):
        return
    yield from _store(session, stored, None, ours)


def _is_just_written(session: TrackedSession, stored: Snapshot, ours: Content) -> Steps[bool]:
    """Return whether this store has just written the same, with about the same expiry."""
    if not (stored.holds(ours) and session._wrote_recently()):
        return False
    ends = yield from _own_expiry(session)
    return not mapping.moves_expiry(session, stored, ours, ends)


def mutate(session: TrackedSession, change: Change[Result]) -> Steps[Result]:
    """Store what the function makes of the session; repeat it if another request was faster."""
    result: Result
    data = yield from loading.data(session)
    if session.session_key is None:
        ours = session._content(data)
        result, content = _apply(session, change, ours)
        yield from create_new(session, ours, content)
        return result
    stored = yield from loading.reread(session)
    result = yield from _store(session, stored, change)
    return result


def _store(
    session: TrackedSession,
    stored: Snapshot | None,
    change: Change[Any] | None,
    ours: Content | None = None,
) -> Steps[Any]:
    """Tidy up, then compare and set."""
    if session._known.strays or session._known.unfinished_move:
        yield from tidy_up(session)
        ours = None
    return (yield from _compare_and_set(session, stored, change, ours))


def _compare_and_set(
    session: TrackedSession,
    stored: Snapshot | None,
    change: Change[Any] | None,
    ours: Content | None = None,
) -> Steps[Any]:
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
            ends = yield from _own_expiry(session)
            update, expected = yield from mapping.update(session, stored, content, ends)
            if expected.there_until != stored.there_until:
                yield from _end_there(session, stored)
            write = Write(baseline, stored, ours, content, expected)
            session._begin(write)
            if change is not None:
                session.modified = True  # so that the cookie's expiry moves with the document's
            if (yield from writes.update(*stored.last_write, update)):
                session._acknowledge(write)
                yield from signed_in.announce_client(session, stored, expected)
                yield from signed_in.enforce_limit(session, stored, expected)
                return result
            session._withdraw(write)
        else:
            # An unreadable document is kept: another host may hold its key, or it may be evidence
            # of tampering. So the session gets a new key.
            result, content = _apply(session, change, ours)
            if content.data and content.body != baseline.body:
                yield from create_new(session, ours, content)
            return result
        yield next(pauses)
        stored, ours = (yield from loading.reread(session)), None


def _end_there(session: TrackedSession, stored: Snapshot) -> Steps[None]:
    """Delete a session in the old engine, since it will end earlier here.

    Otherwise it would be adopted again after that.
    """
    yield from adopting.end_there(session._name_elsewhere(stored.key))


def _apply(
    session: TrackedSession, change: Change[Any] | None, content: Content
) -> tuple[Any, Content]:
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


def create_new(
    session: TrackedSession, ours: Content | None = None, content: Content | None = None
) -> Steps[None]:
    """Store the session under a new key, by the subclass's own create() if there is one.

    With `content`, that is stored instead of `ours`, which the session holds.
    """
    if not session._overrides("create"):
        yield from create(session, content)
        return
    if ours is not None and content is not None:
        session._change(ours, content)
    yield Overridden(session, "create")


def create(session: TrackedSession, content: Content | None = None) -> Steps[None]:
    """Store the session, or this content of it, under a new key."""
    data = yield from loading.data(session, no_load=True)
    ours = session._content(data)
    if session._overrides("save"):
        if content is not None:
            session._change(ours, content)
        yield from _create_by_own_save(session)
    else:
        yield from _insert(session, None, ours, content or ours)


def _create_by_own_save(session: TrackedSession) -> Steps[None]:
    """Store the session under a new key by the subclass's own save(), as Django's create() does."""
    taken = 0
    while True:
        key = yield from _new_key(session)
        try:
            with session._trying(key):
                yield Overridden(session, "save", options={"must_create": True})
            return
        except CreateError:
            taken += 1
            if taken == _NEW_KEY_ATTEMPTS:
                raise


def _insert(
    session: TrackedSession, key: str | None, ours: Content, content: Content
) -> Steps[None]:
    """Store a new session under this key, or a new one, and take over that key."""
    replaced = session._replaced
    expected = yield from insert(session, key, content, session._origin)
    session._inserted(expected, ours, content)
    yield from indexes.ensure_once()
    if replaced is not None:
        yield from signed_in.announce_client(session, replaced, expected)
    yield from signed_in.enforce_limit(session, replaced, expected)


def insert(
    session: TrackedSession,
    given: str | None,
    content: Content,
    origin: Snapshot | None = None,
) -> Steps[Snapshot]:
    """Insert a document under the given key, or a new one, and return its snapshot.

    It is a stray until the session takes over its key. `origin` is the session under its old key,
    if it moves.
    """
    yield from take_back(session)
    for _ in range(_NEW_KEY_ATTEMPTS if given is None else _GIVEN_KEY_ATTEMPTS):
        key = given or (yield from _new_key(session))
        document_id = documents.document_id(key)
        if document_id is None:
            raise CreateError(
                f"A session key must have {documents.KEY_FORM}. One of {len(key)} characters was "
                "given."
            )
        ends = yield from _own_expiry(session)
        document, expected = yield from mapping.new(
            session, key, document_id, content, origin, ends
        )
        session._expect_stray(expected)
        try:
            with session._needing(document_id):
                is_stored = yield from writes.insert(document)
            if is_stored:
                return expected
            yield from take_back(session)  # it may still arrive, so another key is tried
        except PyMongoError as error:
            if not may_have_applied(error):
                session._forget_stray(document_id)
            if id_is_taken(error):
                continue
            raise
        except UpdateError:  # flushed since
            yield from take_back(session)
            raise
    raise CreateError("Every session key that was tried is taken.")


def _new_key(session: TrackedSession) -> Steps[str]:
    """Return a session key to try."""
    if session._overrides("_get_new_session_key") or session._overrides("exists"):
        key: str = yield Overridden(session, "_get_new_session_key")
        return key
    return session._get_new_session_key()


def _own_expiry(session: TrackedSession) -> Steps[datetime | None]:
    """Return when the session ends, if a subclass says so by a method of its own."""
    if session._overrides("get_expiry_date"):
        return dates.utc((yield Overridden(session, "get_expiry_date")))
    if session._overrides("get_expiry_age"):
        age = yield Overridden(session, "get_expiry_age")
        return dates.add_seconds(dates.utc_now(), age)
    return None


def tidy_up(session: TrackedSession) -> Steps[None]:
    """Finish what earlier calls left unfinished: a reply was lost, or a task was cancelled."""
    yield from take_back(session)
    yield from finish_move(session)


def finish_move(session: TrackedSession) -> Steps[None]:
    """Replace the old document with a pointer, if it is unknown whether that was done.

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
        # After that time, the pointer may have been there, and may have expired.
        if was_signed_out and time.monotonic() - move.began < documents.MARKER_AGE / 2:
            yield from writes.delete(new_id)
            raise UpdateError("The session was deleted.")
        if newest is None or not newest.readable:
            break
        session._bring_along(move, newest)
        yield from _compare_and_set(session, session._baseline, None)
        yield next(pauses)
    if move is not None and move.old.adopted is not None:
        yield from adopting.delete_there(session._name_elsewhere(move.old.key))
    session._finish_move()


def take_back(session: TrackedSession, and_own: bool = False) -> Steps[None]:
    """Remove the documents that may be stored under keys that no session uses.

    If one is not there, its insert may still arrive, so a marker takes its id. The id of the
    session's own key is left free, so that it can be inserted again, and what a write under way
    needs is left alone, except with `and_own`.
    """
    own_id = documents.document_id(session.session_key)
    for document_id, write_id in list(session._known.strays.items()):
        if document_id in session._known.needed and not and_own:
            continue
        there = yield operations.delete_write(document_id, write_id)
        if not there and (and_own or document_id != own_id):
            yield from writes.occupy(mapping.tombstone(document_id))
        session._forget_stray(document_id)


def touch(session: TrackedSession) -> Steps[bool]:
    """Move the expiry of a session that was only read; return whether that was done.

    It is not done if the session is gone, or if another request has written it since, and so has
    moved the expiry. An error of MongoDB's is logged and not raised: a later request tries again.
    """
    stored = session._baseline
    if stored is None or stored.cleared or not stored.readable:
        return False
    # To seal the session with the current key, its data as stored: it may have unsaved changes.
    data = stored.data if stored.sealed_with_current_key else session._load(stored.body)
    content = Content(data, stored.body)
    ends = yield from _own_expiry(session)
    try:
        update, expected = yield from mapping.update(session, stored, content, ends)
        if expected.there_until != stored.there_until:
            yield from _end_there(session, stored)
        moved = yield from writes.update(*stored.last_write, update)
    except PyMongoError as error:
        logger.warning("The expiry of a session that was read could not be moved: %s", error)
        return False
    if moved:
        expected = expected._replace(data=stored.data)
        session._acknowledge(Write(stored, stored, content, content, expected))
        yield from signed_in.announce_client(session, stored, expected)
    return moved
