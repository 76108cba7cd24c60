"""Move a session to a new key, as signing in does.

It is stored under the new key first. Then a pointer to the new document takes the place of the old
one. Until then the old key is the session's: what other requests store under it in the meantime
moves along. For a minute the pointer leads a sign-out to the session that has moved. It also shows
what has ended the session under the old key: if there is no pointer, or one with another
`write_id`, it was not this move.
"""

from __future__ import annotations

from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import PyMongoError

from django_mongo_sessions.connection.errors import may_have_applied
from django_mongo_sessions.engine import adopting, loading, mapping, saving, signed_in
from django_mongo_sessions.engine.session import Snapshot, TrackedSession, Write
from django_mongo_sessions.mongo import indexes, writes
from django_mongo_sessions.mongo.runner import Overridden, Steps
from django_mongo_sessions.storage import documents


def cycle_key(session: TrackedSession) -> Steps[None]:
    """Give the session a new key."""
    yield from loading.data(session)
    if session.session_key is None:
        yield from saving.create_new(session)
        return
    yield from saving.tidy_up(session)
    if session._baseline is None:
        yield from loading.reread(session)
    baseline = session._baseline
    if baseline is None and documents.user_id(session._session_cache) is not None:
        raise UpdateError("The session was deleted.")
    if baseline is None or not baseline.readable:
        yield from saving.create_new(session)
    elif any(map(session._overrides, ("create", "save", "delete"))):
        yield from _move_by_own_methods(session, baseline)
    else:
        yield from _move(session, baseline)


def _move_by_own_methods(session: TrackedSession, baseline: Snapshot) -> Steps[None]:
    """Move the session by the methods that Django's own cycle_key() calls.

    Here the session gets the new key first. So until the old one is left, both open it.
    """
    with session._moving(baseline):
        yield from saving.create_new(session)
    if session._known.unfinished_move is None:  # create() has stored nothing under another key
        return
    if session._overrides("delete"):
        yield Overridden(session, "delete", (baseline.key,))
        session._finish_move()  # even if it has left the old session where it was
    else:
        yield from saving.finish_move(session)


def _move(session: TrackedSession, baseline: Snapshot) -> Steps[None]:
    ours = session._content(baseline.data)
    new = yield from saving.insert(session, None, ours, baseline)
    write, pauses = Write(baseline, baseline, ours, ours, new), writes.backoff()
    try:
        with session._needing(new.document_id):
            # Now: once the old key is left, nothing may keep the browser from the new one.
            yield from indexes.ensure_once()
            while not (yield from _leave_old_key(session, write)):
                yield next(pauses)
                newest = yield from loading.reread(session)
                if newest is None and documents.user_id(write.content.data) is not None:
                    raise UpdateError("The session was deleted.")
                if newest is None or not newest.readable:
                    session._acknowledge(write)  # anonymous: two clicks on "sign in" do that
                    break
                write = yield from _follow(session, newest, write.expected)
    except UpdateError:
        yield from saving.take_back(session)  # or the login would succeed after all
        raise
    if baseline.adopted is not None:
        yield from adopting.delete_there(session._name_elsewhere(baseline.key))
    yield from signed_in.announce_client(session, baseline, write.expected)
    yield from signed_in.enforce_limit(session, baseline, write.expected)


def _leave_old_key(session: TrackedSession, write: Write) -> Steps[bool]:
    """Replace the old document with a pointer, unless another request has stored it since."""
    old, pointer = write.replaces, documents.new_write_id()
    marker = mapping.pointer(old, write.expected.document_id, pointer)
    try:
        left = yield from writes.move(old.document_id, old.write_id, marker)
    except (PyMongoError, GeneratorExit) as error:
        if may_have_applied(error) and session.session_key == old.key:
            # In any case the new key opens the session.
            session._moved(write, pointer, is_confirmed=False)
        raise
    if left:
        session._moved(write, pointer)
    return left


def _follow(session: TrackedSession, newest: Snapshot, new: Snapshot) -> Steps[Write]:
    """Store under the new key what another request has stored under the old one."""
    baseline = session._baseline or newest
    ours = session._content(baseline.data)
    content = session._merged(baseline, newest, ours)
    update, expected = yield from mapping.update(session, new, content)
    if not (yield from writes.update(*new.last_write, update)):
        raise UpdateError("The session was deleted.")
    return Write(baseline, newest, ours, content, expected)
