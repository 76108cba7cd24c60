"""Save, mutate, create and touch a session.

No update is lost: a write compares and sets the revision. If another request was faster, what it
has stored is merged, and the write is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from inspect import iscoroutine
from typing import Any, TypeVar

from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import DuplicateKeyError, PyMongoError

from django_mongo_sessions.engine import loading, mapping
from django_mongo_sessions.engine.session import Content, Snapshot, TrackedSession, Write
from django_mongo_sessions.mongo import indexes, operations, writes
from django_mongo_sessions.mongo.runner import Steps
from django_mongo_sessions.storage import documents

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
        yield from _insert(session, [session.session_key], ours, ours)
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
    session.modified = True  # so that the cookie's expiry moves with the document's
    return result


def _store(
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
            if (yield from writes.update(*_target(stored), update, expected.revision)):
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


def _target(stored: Snapshot) -> tuple[bytes, int]:
    return stored.document_id, stored.revision


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
    session.modified = True  # as Django's stores do, and code relies on it


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

    `origin` is the session under its old key, if it moves.
    """
    yield from _take_back(session)
    for key in keys:
        document_id = documents.document_id(key)
        if key is None or document_id is None:
            continue
        document, expected = mapping.new(session, key, document_id, content, origin)
        try:
            yield from writes.insert(document)
        except DuplicateKeyError as error:
            if "_id" not in (error.details or {}).get("keyPattern", "_id"):
                raise  # a unique index of the project's, which no other key would satisfy
            continue
        except (PyMongoError, GeneratorExit):  # no reply came, or the caller did not wait for it
            session._doubt_insert(document)
            raise
        return expected
    raise CreateError("Every session key that was tried is taken, or is not one of this engine's.")


def new_keys(session: TrackedSession) -> Iterable[str]:
    """Yield random session keys to try."""
    return (session._get_new_session_key() for _ in range(_NEW_KEY_ATTEMPTS))


def _take_back(session: TrackedSession) -> Steps[None]:
    """Delete what an earlier insert without a reply may have stored, before another insert."""
    document, baseline = session._known.unconfirmed_insert, session._baseline
    session._doubt_insert(None)
    if document is None or (baseline and baseline.document_id == document["_id"]):
        return
    try:
        yield operations.take_back(document)
    except PyMongoError:
        session._doubt_insert(document)
        raise


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
        moved = yield from writes.update(*_target(stored), update, expected.revision)
    except PyMongoError as error:
        logger.warning("The expiry of a session that was read could not be moved: %s", error)
        return False
    if moved:
        expected = expected._replace(data=stored.data)
        session._acknowledge(Write(stored, stored, content, content, expected))
    return moved
