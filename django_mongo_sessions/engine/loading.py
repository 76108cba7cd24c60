"""Load a session, read it again, and find out whether one exists.

Steps never touch `session._session`, which hides I/O: they ask `yield from data(session)`.
"""

from __future__ import annotations

from typing import Any

from bson.errors import InvalidBSON

from django_mongo_sessions.conf import conf
from django_mongo_sessions.engine import adopting, mapping, predecessors
from django_mongo_sessions.engine.session import Snapshot, TrackedSession
from django_mongo_sessions.mongo import operations, reads
from django_mongo_sessions.mongo.runner import Overridden, Steps
from django_mongo_sessions.storage import documents

MAX_MOVES = 16  # how often a session may have moved within the minute that a pointer lives


def exists(session_key: str | None) -> Steps[bool]:
    """Return whether a live session is stored under the key."""
    if session_key is not None and conf.PREDECESSOR is not None:
        return (yield from adopting.exists(*predecessors.translated(session_key)))
    document_id = documents.document_id(session_key)
    if document_id is None:
        return False
    return bool((yield from reads.exists(document_id)))


def load(session: TrackedSession) -> Steps[Snapshot | None]:
    """Read the stored session; None if there is none, and then its key is dropped."""
    snapshot = yield from find(session, session.session_key)
    if snapshot is None:
        session._drop_key()
    session._loaded(snapshot)
    return snapshot


def data(session: TrackedSession, no_load: bool = False) -> Steps[dict[str, Any]]:
    """Return the session's dict, loaded if it is not in memory yet."""
    session.accessed = True
    if not hasattr(session, "_session_cache"):
        if session.session_key is None or no_load:
            session._adopt(None)
        elif session._overrides("load"):
            session._adopt_overridden((yield Overridden(session, "load")))
        else:
            session._adopt((yield from load(session)))
    return session._session_cache


def reread(session: TrackedSession) -> Steps[Snapshot | None]:
    """Read what is stored now; None if the session is gone."""
    newest = yield from find(session, session.session_key)
    if newest is not None:
        session._reread(newest)
    return newest


def target(document_id: bytes) -> Steps[bytes | None]:
    """Return the id of the document to which a session has moved from this one; None if to none."""
    try:
        marker = yield operations.find_marker(document_id)
    except InvalidBSON:  # the engine stores no such marker
        return None
    return None if marker is None else mapping.target(marker)


def moved(document_id: bytes) -> Steps[bytes | None]:
    """Return the id that a session has now if it has moved from this one; None if it has not."""
    found: bytes | None = None
    following = yield from target(document_id)
    while following is not None:  # each id is new, so there is no circle
        found, following = following, (yield from target(following))
    return found


def describe(session: TrackedSession, with_data: bool) -> Steps[dict[str, Any] | None]:
    """Return the stored session to be shown, even if it has expired; None if there is none."""
    key = session.session_key
    document_id = documents.document_id(key)
    if key is None or document_id is None:
        return None
    document = yield operations.find(document_id)
    if document is None or documents.is_marker(document):
        return None
    shown = documents.describe(document)
    if with_data:
        snapshot = yield from mapping.opened(session, key, document_id, document)
        shown["data"] = snapshot.data if snapshot.readable else None
    return shown


def find(session: TrackedSession, key: str | None) -> Steps[Snapshot | None]:
    """Read the document of a key; None if there is none, or if it has expired.

    If nothing is stored, the session may be one of the old engine's.
    """
    document_id = documents.document_id(key)
    if key is None or document_id is None:
        return None
    try:
        document = yield from reads.find(document_id)
        if document is None and conf.PREDECESSOR is not None:
            return (yield from adopting.adopt(session, key, document_id))
    except InvalidBSON as error:
        return mapping.rejected(session, key, document_id, error)
    return (yield from mapping.found(session, key, document_id, document))
