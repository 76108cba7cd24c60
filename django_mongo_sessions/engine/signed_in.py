"""The sessions of a user: which there are, how they are ended, and how many there may be.

The sessions themselves are the index, by the field `user_id`. No payload is read. A session is live
if it would authenticate now: it has not expired, its password hash is one of the user's, and nobody
else uses it in the user's name.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bson.errors import InvalidBSON
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare, salted_hmac
from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import errors
from django_mongo_sessions.devices import Device, device
from django_mongo_sessions.engine import loading, mapping, predecessors
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Call, Send, Steps
from django_mongo_sessions.signals import session_client_changed, session_revoked
from django_mongo_sessions.storage import dates, documents

if TYPE_CHECKING:
    from django_mongo_sessions.engine.session import Snapshot, TrackedSession

_SALT = "django_mongo_sessions.users"
_HANDLE_LENGTH = 16  # bytes
_REVOKE_ATTEMPTS = 50
_TRIM_ATTEMPTS = 50
_TRIM_BATCH = 1_000  # sessions that one command ends

logger = logging.getLogger("django_mongo_sessions")

# The hashes of the passwords with which a session of a user still authenticates; None if they are
# not known.
Hashes = Collection[bytes] | None


@dataclass(frozen=True)
class UserSession:
    """A session of a user who is signed in. It has neither the session's key nor its data."""

    #: What revoke_session() takes. It changes with SECRET_KEY, and opens nothing.
    id: str
    #: The user's id as text.
    user_id: str
    #: When the user signed in. All dates are aware, in UTC.
    created_at: datetime
    #: When the session was last stored, or its expiry moved: see TOUCH_INTERVAL.
    last_seen_at: datetime
    #: When the session ends, unless it is used before.
    expires_at: datetime
    #: The client's address or network, if ADDRESS records it; else None.
    address: str | None
    #: The browser's `User-Agent`, if USER_AGENT records it; else None.
    user_agent: str | None
    #: The id of whoever uses the session in the user's name, as text; None if nobody does.
    impersonator_id: str | None
    #: Whether it is the session of the request that asks.
    is_current: bool

    @property
    def device(self) -> Device:
        """The browser and what it runs on, such as "Firefox on Linux"."""
        return device(self.user_agent)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: dates as ISO 8601, the device as text."""
        shown = {name: _plain(value) for name, value in vars(self).items()}
        return {**shown, "device": str(self.device)}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


@dataclass(frozen=True)
class Found:
    """A session of a user, and what it takes to end it."""

    document_id: bytes
    auth_hash: bytes | None
    shown: UserSession
    is_adopted: bool = False  # then the old engine may have it too

    def is_live(self, hashes: Hashes) -> bool:
        """Return whether it would authenticate now, and is the user's own.

        The current one would: while a request changes the password, its own session has the old
        hash until the response is sent.
        """
        is_own = self.shown.impersonator_id is None
        return is_own and (self.shown.is_current or not self.is_stale(hashes))

    def is_stale(self, hashes: Hashes) -> bool:
        """Return whether a new password has ended it."""
        return hashes is not None and self.auth_hash is not None and self.auth_hash not in hashes


@dataclass(frozen=True)
class Ended:
    """Sessions that were ended, and how many they are."""

    count: int
    sessions: list[UserSession]


def handle(user_id: str, document_id: bytes, key: str | bytes) -> str:
    """Return the public id of a session of a user. Without a signing key, nobody can compute it."""
    # The id has a fixed length, so no two pairs are the same bytes.
    mac = salted_hmac(_SALT, document_id + user_id.encode(), secret=key, algorithm="sha256")
    return base64.urlsafe_b64encode(mac.digest()[:_HANDLE_LENGTH]).rstrip(b"=").decode()


def names(found: Found, given: object) -> bool:
    """Return whether a handle names this session, with any of the signing keys."""
    text = given if isinstance(given, str) else ""
    text = text.encode(errors="replace").decode()  # it may hold lone surrogates
    is_named = False
    for each in handles(found):  # all of them, so that the time tells nothing
        is_named |= constant_time_compare(each, text)
    return is_named


def handles(found: Found) -> list[str]:
    """Return the handles of a session, one for each of the signing keys, the newest first."""
    user_id, document_id = found.shown.user_id, found.document_id
    return [handle(user_id, document_id, key) for key in conf.SIGNING_KEYS]


def find(user_id: str, current: bytes | None = None) -> Steps[list[Found]]:
    """Read the sessions of a user that have not expired; the current one first, then the newest."""
    with_adopted = predecessors.needs_tombstones()
    try:
        documents_of_user = yield operations.find_of_user(user_id, with_adopted)
    except InvalidBSON:  # what is recorded in one of them was not written by the engine
        documents_of_user = yield operations.find_of_user(user_id, with_adopted, documents.DATED)
    now = dates.utc_now()
    found = [_found(each, current) for each in documents_of_user if _is_whole(each, now)]
    return sorted(
        found, key=lambda each: (each.shown.is_current, each.shown.created_at), reverse=True
    )


def _is_whole(document: dict[str, Any], now: datetime) -> bool:
    """Return whether a document has what the engine stores, and has not expired."""
    moments = [document.get(name) for name in ("created_at", "seen_at", "expires_at")]
    return (
        isinstance(document["_id"], bytes)
        and isinstance(document["user_id"], str)  # a filter finds what is in an array too
        and all(isinstance(moment, datetime) for moment in moments)
        and document["expires_at"] > now
    )


def _found(document: dict[str, Any], current: bytes | None) -> Found:
    document_id = document["_id"]
    auth_hash, *shown = map(document.get, documents.RECORDED)
    impersonator_id, user_agent, address = (
        value if isinstance(value, str) else None for value in shown
    )
    return Found(
        document_id,
        auth_hash if isinstance(auth_hash, bytes) else None,
        UserSession(
            handle(document["user_id"], document_id, conf.SIGNING_KEYS[0]),
            document["user_id"],
            dates.utc(document["created_at"]),
            dates.utc(document["seen_at"]),
            dates.utc(document["expires_at"]),
            address,
            user_agent,
            impersonator_id,
            document_id == current,
        ),
        "adopted" in document,
    )


def find_signed_in(
    user_ids: Collection[str] | None, current: bytes | None, skip: int = 0, limit: int = 0
) -> Steps[list[Found]]:
    """Read the live sessions of these users, or of everybody: those that expire last come first.

    Sessions that a new password has ended, and those that somebody else uses in the user's name,
    are returned too. With a limit of 0, all are returned.
    """
    now = dates.utc_now()
    sort = operations.find_signed_in(user_ids, now, skip, limit)
    if user_ids is not None:
        documents_found = yield sort
    else:
        try:
            documents_found = yield operations.find_signed_in_by_index(now, skip, limit)
        except OperationFailure as error:
            if not errors.is_without_index(error):
                raise
            documents_found = yield sort
    return [_found(each, current) for each in documents_found if _is_whole(each, now)]


def count_signed_in(user_ids: Collection[str] | None, limit: int) -> Steps[int]:
    """Return how many sessions find_signed_in() has, at most `limit`.

    It may be a few more, since a session that has expired counts until the TTL index removes it.
    """
    counted: int = yield operations.count_signed_in(user_ids, limit)
    return counted


def listed(user_id: str, hashes: Hashes, current: bytes | None) -> Steps[list[UserSession]]:
    """Return the live sessions of a user."""
    found = yield from find(user_id, current)
    return [each.shown for each in found if each.is_live(hashes)]


def revoke(
    user_id: str,
    chosen: Callable[[Found], bool],
    reason: str,
    request: HttpRequest | None = None,
    current: bytes | None = None,
) -> Steps[Ended]:
    """Delete those sessions of a user that are chosen, and return them.

    A session that moves to a new key in the meantime is looked for again.
    """
    ended = Ended(0, [])
    everything = yield from find(user_id, current)
    if current is not None and not any(each.shown.is_current for each in everything):
        current = yield from loading.moved(current)
        if current is not None:  # another request of the session has given it a new key
            everything = yield from find(user_id, current)
    for _ in range(_REVOKE_ATTEMPTS):
        found = [each for each in everything if chosen(each)]
        if not found:
            break
        some = yield from _end(user_id, found, None, reason, request)
        ended = Ended(ended.count + some.count, [*ended.sessions, *some.sessions])
        everything = yield from find(user_id, current)
    return ended


def _end(
    user_id: str,
    found: Sequence[Found],
    seen: Mapping[bytes, datetime] | None,
    reason: str,
    request: HttpRequest | None,
) -> Steps[Ended]:
    """End sessions, and announce those that have ended. With `seen`, only if not used since.

    If another request signs out of one at the same moment, it is announced too, and not counted.
    """
    ended = []
    for each in found:
        if each.is_adopted:  # a tombstone keeps what the old engine has of it from coming back
            seen_at = None if seen is None else seen[each.document_id]
            tombstone = mapping.tombstone(each.document_id)
            if (yield operations.bury_of_user(user_id, tombstone, seen_at)):
                ended.append(each)
                yield _announcement(each, reason, request)  # now: the next one may fail
    count, born_here = len(ended), [each for each in found if not each.is_adopted]
    if born_here:
        ids = [each.document_id for each in born_here]
        if seen is None:
            deleted = yield operations.delete_of_user(user_id, ids)
        else:
            deleted = yield operations.delete_last_seen({each: seen[each] for each in ids})
        if deleted < len(ids):  # the others have moved, were used again, or are gone
            left = yield operations.find_ids(ids)
            born_here = [each for each in born_here if each.document_id not in left]
        if deleted:
            count += deleted
            ended += born_here
            for each in born_here:
                yield _announcement(each, reason, request)
    return Ended(count, [each.shown for each in ended])


def _announcement(ended: Found, reason: str, request: HttpRequest | None) -> Send:
    arguments = {"session": ended.shown, "reason": reason, "request": request}
    return Send(session_revoked, UserSession, arguments)


# The limit


def enforce_limit(session: TrackedSession, before: Snapshot | None, after: Snapshot) -> Steps[None]:
    """End the sessions of a user that are too many, if this write has signed the user in.

    Those that a new password has ended go first, then the least recently seen, and the newest
    sign-in last. Sign-ins of the same moment agree on that order, so at rest there are never more
    and never fewer.
    """
    user_id = after.user_id
    if user_id is None or (before is not None and before.user_id == user_id):
        return
    if "impersonator_id" in after.recorded:
        return
    limit = yield from _limit_of(user_id)
    if limit is None:
        return
    request = None if session._client is None else session._client.request
    try:
        yield from _trim(user_id, limit, _hashes(session, after), request)
    except (PyMongoError, InvalidBSON) as error:
        logger.warning("The sessions of a user could not be limited: %s", error)


def _limit_of(user_id: str) -> Steps[int | None]:
    """Return how many sessions a user may have; None if any number.

    The sign-in is stored already. If it failed now, its session would stay, and nobody could use
    it. So it succeeds, whatever the site's callable does.
    """
    try:
        limit: Any = conf.function("MAX_SESSIONS")
        if callable(limit):
            limit = yield Call(limit, (user_id,))
    except Exception:
        logger.exception("The sessions of a user are not limited: MAX_SESSIONS has failed.")
        return None
    if limit is None or (type(limit) is int and limit > 0):
        return limit
    logger.error(
        "The sessions of a user are not limited: MAX_SESSIONS has returned %s. It must return a "
        "whole number above 0, or None.",
        limit if isinstance(limit, (int, float)) else f"an object of {type(limit).__name__}",
    )
    return None


def _hashes(session: TrackedSession, after: Snapshot) -> Hashes:
    """Return the hashes with which other sessions of whoever has just signed in authenticate.

    They are those of the user whom Django's login() has named, unless this sign-in is another's.
    """
    own = after.recorded.get("auth_hash")
    if own is None:
        return None
    known = session._user_hashes
    return known if known is not None and own in known else {own}


def _trim(user_id: str, limit: int, hashes: Hashes, request: HttpRequest | None) -> Steps[None]:
    for _ in range(_TRIM_ATTEMPTS):
        found = yield from find(user_id)
        own = [each for each in found if each.shown.impersonator_id is None]
        surplus = len(own) - limit
        if surplus <= 0:
            break
        # The newest stays, although another session may have been used since it was stored.
        newest = max(
            own,
            key=lambda each: (each.shown.created_at, each.shown.last_seen_at, each.document_id),
        )
        own.sort(
            key=lambda each: (
                not each.is_stale(hashes),
                each is newest,
                each.shown.last_seen_at,
                each.document_id,
            )
        )
        chosen = own[: min(surplus, _TRIM_BATCH)]
        seen = {each.document_id: each.shown.last_seen_at for each in chosen}
        ended = yield from _end(user_id, chosen, seen, "limit", request)
        if ended.count == surplus:
            break


# The client


def announce_client(session: TrackedSession, before: Snapshot, after: Snapshot) -> Steps[None]:
    """Send a signal if a write has recorded another client than the one before."""
    if before.recorded == after.recorded or not session_client_changed.receivers:
        return
    was, is_now = _client(before), _client(after)
    if any(was[name] and is_now[name] and was[name] != is_now[name] for name in was):
        request = None if session._client is None else session._client.request
        yield Send(
            session_client_changed,
            type(session),
            {"request": request, "before": was, "after": is_now},
        )


def _client(snapshot: Snapshot) -> dict[str, Any]:
    return {name: snapshot.recorded.get(name) for name in ("user_agent", "address")}
