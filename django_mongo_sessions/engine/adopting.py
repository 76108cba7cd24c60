"""Adopt the sessions of the engine that the site had before, when they are used.

This engine leads. Only if nothing at all is stored under a key, the old engine is asked. What it
has is stored here, acknowledged by a majority, and then deleted there. A sign-out leaves a
tombstone here, and then deletes there. The unique `_id` decides every race:

- Whoever has read the old session and stores it after the sign-out finds the tombstone.
- Of two requests that adopt the same session, one insert wins, and both use that session.
- After a crash between two steps, the session is in both engines, and this one leads.

From PREDECESSOR_UNTIL on the old engine is not asked any more. The tombstones outlive that day.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import DocumentTooLarge, DuplicateKeyError

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import errors
from django_mongo_sessions.engine import mapping, predecessors
from django_mongo_sessions.engine.predecessors import OldEngine, OldSession
from django_mongo_sessions.exceptions import PredecessorUnavailable
from django_mongo_sessions.mongo import indexes, operations, reads, writes
from django_mongo_sessions.mongo.runner import Elsewhere, Send, Steps
from django_mongo_sessions.signals import session_adopted
from django_mongo_sessions.storage import dates, documents

if TYPE_CHECKING:
    from django_mongo_sessions.engine.session import Snapshot, TrackedSession

_MAX_REPORTED = 10_000
_INEXACT = " The old engine does not tell when it ends, so it may end later than it would have."

logger = logging.getLogger("django_mongo_sessions.predecessor")

# The ids of sessions of which it was logged that they cannot be stored.
_reported: set[bytes] = set()


def adopt(session: TrackedSession, key: str, document_id: bytes) -> Steps[Snapshot | None]:
    """Take over a session, after nothing was found here; None if the old engine has none either.

    Raises PredecessorUnavailable if the old engine raises an error. A session that cannot be stored
    here is left where it is, and is unreadable.
    """
    name = session._name_elsewhere(key)
    while True:
        old = yield from _read(name)
        if old is None:
            return None
        made = yield from _document(session, key, document_id, old)
        if isinstance(made, str):
            _report(document_id, made)
            return mapping.unreadable(key, document_id)
        document, expected = made
        if expected.expires_at <= dates.utc_now():  # because of ABSOLUTE_AGE
            return None
        try:
            if (yield from writes.insert(document, is_adopted=True)):
                break
        except DuplicateKeyError as error:
            if not errors.id_is_taken(error):
                raise
            stored = yield from reads.find(document_id)
            if stored is not None:  # another request has adopted the session, or ended it
                return (yield from mapping.found(session, key, document_id, stored))
    yield from indexes.ensure_once()
    if not conf.PREDECESSOR_KEEPS and (yield from delete_there(name)):
        # Or `import --finish` would take it for a copy whose session was signed out there.
        yield operations.forget_there([document_id])
        expected = expected._replace(there_until=None)
    logger.info("A session was adopted.%s", "" if old.is_exact else _INEXACT)
    request = None if session._client is None else session._client.request
    told = {"request": request, "user_id": expected.user_id}
    yield Send(session_adopted, type(session), told)
    return expected


def _document(
    session: TrackedSession, key: str, document_id: bytes, old: OldSession
) -> Steps[tuple[dict[str, Any], Snapshot] | str]:
    """Return what to insert, and its snapshot; or why it cannot be stored, without its values."""
    data, fields = session.from_predecessor(old, old.data)
    try:
        content = session._content(data)
    except Exception as error:  # whatever the serializer raises
        names = ", ".join(map(repr, unstorable(session, data)))
        return f"SESSION_SERIALIZER cannot store {names or f'it: {type(error).__name__}'}"
    try:
        return (yield from mapping.adopted(session, key, document_id, content, fields, old))
    except DocumentTooLarge as error:
        return str(error)


def unstorable(session: TrackedSession, data: dict[str, Any]) -> Iterator[Any]:
    """Yield the names of the session keys that the serializer cannot store."""
    for name, value in data.items():
        try:
            session._dump({name: value})
        except Exception:  # whatever the serializer raises
            yield name


def _report(document_id: bytes, problem: str) -> None:
    """Log once per session and process that a session cannot be stored."""
    if document_id not in _reported:
        if len(_reported) == _MAX_REPORTED:
            _reported.clear()
        _reported.add(document_id)
        logger.error("A session was not adopted, and stays in the old engine: %s", problem)


def exists(key: str, name: str) -> Steps[bool]:
    """Return whether there is a session, here or in the old engine, which calls it by that name."""
    document_id = documents.document_id(key)
    if document_id is None:
        return False
    found = yield from reads.exists(document_id)
    return (yield from is_there(name)) if found is None else found


def is_there(name: str) -> Steps[bool]:
    """Return whether the old engine has a session. Raises what adopt() raises."""
    return (yield from _read(name)) is not None


def remove(document_id: bytes) -> Steps[bool]:
    """Delete a session; return whether it was here. A marker stays.

    While there is an old engine that may have it too, a tombstone is left.
    """
    if not predecessors.needs_tombstones():
        return (yield from writes.delete(document_id))
    return (yield from writes.bury(mapping.tombstone(document_id)))


def delete_there(name: str) -> Steps[bool]:
    """Delete a session in the old engine; return whether that worked.

    A failure is logged, since ours leads.
    """
    try:
        yield from end_there(name)
    except PredecessorUnavailable as error:
        logger.warning("A session could not be deleted in the old engine: %s", error)
        return False
    return True


def end_there(name: str) -> Steps[None]:
    """See delete_there(). Raises PredecessorUnavailable if it fails."""
    old = predecessors.current()
    if old is not None and old.kind != predecessors.COOKIES:
        yield from _ask(old, old.delete, old.adelete, name)


def _read(name: str) -> Steps[OldSession | None]:
    old = predecessors.current()
    if old is None or not old.has_such(name):
        return None
    found: OldSession | None = yield from _ask(old, old.read, old.aread, name)
    return found


def _ask(
    old: OldEngine,
    call: Callable[[str], Any],
    acall: Callable[[str], Awaitable[Any]],
    name: str,
) -> Steps[Any]:
    began = time.monotonic()
    old.gate.enter(began)
    try:
        found = yield Elsewhere(partial(call, name), partial(acall, name))
    except UpdateError:  # flushed by another task, in the meantime
        raise
    except Exception as error:
        old.gate.leave(began, error)
    else:
        old.gate.leave(began)
        return found
    raise old.gate.error()  # not in the handler: a traceback would show the old engine's variables
