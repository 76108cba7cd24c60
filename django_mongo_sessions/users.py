"""Who is signed in: list, count and end the sessions of a user::

    from django_mongo_sessions.users import list_sessions, revoke_other_sessions

    sessions = list_sessions(request.user, request=request)

A user is given as an object of any model, or by its id as text, such as that of a user who was
deleted. With an object, sessions that a new password has ended are left out; for an id it is not
known which those are. Each function has a form to be awaited, whose name begins with an `a`. All
let PyMongo's errors pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection.breaker import OPEN, Gate
from django_mongo_sessions.engine import signed_in
from django_mongo_sessions.engine.signed_in import Ended, Found, Hashes, UserSession
from django_mongo_sessions.middleware.deferred import own_session
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Steps, arun, run
from django_mongo_sessions.storage import documents

__all__ = [
    "UserSession",
    "acount_sessions",
    "alist_sessions",
    "arevoke_all_sessions",
    "arevoke_other_sessions",
    "arevoke_session",
    "asigned_in_user_ids",
    "count_sessions",
    "id_of",
    "list_sessions",
    "revoke_all_sessions",
    "revoke_other_sessions",
    "revoke_session",
    "signed_in_user_ids",
]


def list_sessions(user: Any, *, request: HttpRequest | None = None) -> list[UserSession]:
    """Return the sessions in which a user is signed in: the newest first.

    With the request, its own session is marked, and comes first. Raises ValueError for an anonymous
    user, for one that was never saved, and for anything that is neither a user nor text.
    """
    return run(
        signed_in.listed(id_of(user), hashes_of(user), current_id(request)), gate_of(request)
    )


async def alist_sessions(user: Any, *, request: HttpRequest | None = None) -> list[UserSession]:
    """See list_sessions()."""
    return await arun(
        signed_in.listed(id_of(user), hashes_of(user), current_id(request)), gate_of(request)
    )


def count_sessions(user: Any) -> int:
    """Return in how many sessions a user is signed in. Raises what list_sessions() raises."""
    return len(list_sessions(user))


async def acount_sessions(user: Any) -> int:
    """See count_sessions()."""
    return len(await alist_sessions(user))


def revoke_session(
    user: Any, session_id: object, *, request: HttpRequest | None = None
) -> UserSession | None:
    """End one session of a user, by the `id` that list_sessions() has returned.

    Returns the session; None if the user has no such session, whatever the id is. If it is the
    request's own session, that is flushed. Raises what list_sessions() raises.
    """
    ended = run(_revoke(user, _named(session_id), "user", request), gate_of(request))
    if request is not None and any(each.is_current for each in ended.sessions):
        request.session.flush()
    return next(iter(ended.sessions), None)


async def arevoke_session(
    user: Any, session_id: object, *, request: HttpRequest | None = None
) -> UserSession | None:
    """See revoke_session()."""
    ended = await arun(_revoke(user, _named(session_id), "user", request), gate_of(request))
    if request is not None and any(each.is_current for each in ended.sessions):
        await request.session.aflush()
    return next(iter(ended.sessions), None)


def revoke_other_sessions(request: HttpRequest) -> int:
    """End every session of the user who is signed in, except for the request's own.

    Returns how many there were; 0 if nobody is signed in.
    """
    session = session_of(request)
    user_id = None if session is None else documents.user_id(session)
    if user_id is None or not _is_signed_in(request):
        return 0
    return run(_revoke(user_id, _is_other, "others", request), gate_of(request)).count


async def arevoke_other_sessions(request: HttpRequest) -> int:
    """See revoke_other_sessions()."""
    session = session_of(request)
    user_id = None if session is None else documents.user_id(await session._aget_session())
    if user_id is None or not await _ais_signed_in(request):
        return 0
    return (await arun(_revoke(user_id, _is_other, "others", request), gate_of(request))).count


def revoke_all_sessions(user: Any, *, request: HttpRequest | None = None) -> int:
    """End every session of a user, and return how many there were.

    If the request's own session is one of them, it is flushed. Raises what list_sessions() raises.
    """
    ended = run(_revoke(user, _is_own, "all", request), gate_of(request))
    if request is not None and any(each.is_current for each in ended.sessions):
        request.session.flush()
    return ended.count


async def arevoke_all_sessions(user: Any, *, request: HttpRequest | None = None) -> int:
    """See revoke_all_sessions()."""
    ended = await arun(_revoke(user, _is_own, "all", request), gate_of(request))
    if request is not None and any(each.is_current for each in ended.sessions):
        await request.session.aflush()
    return ended.count


def signed_in_user_ids() -> list[str]:
    """Return the ids of all users who are signed in, sorted as text.

    A session that has expired counts until the TTL index has removed it, within about a minute.
    """
    return run(_signed_in_user_ids())


async def asigned_in_user_ids() -> list[str]:
    """See signed_in_user_ids()."""
    return await arun(_signed_in_user_ids())


def _signed_in_user_ids() -> Steps[list[str]]:
    found: list[str] = yield operations.signed_in_user_ids()
    return found


def _revoke(
    user: Any, chosen: Callable[[Found], bool], reason: str, request: HttpRequest | None
) -> Steps[Ended]:
    return signed_in.revoke(id_of(user), chosen, reason, request, current_id(request))


def _named(session_id: object) -> Callable[[Found], bool]:
    # All are compared, so that it takes as long whether there is such a session or not.
    return lambda found: signed_in.names(found, session_id) and _is_own(found)


def _is_own(found: Found) -> bool:
    return found.shown.impersonator_id is None


def _is_other(found: Found) -> bool:
    return _is_own(found) and not found.shown.is_current


def id_of(user: Any) -> str:
    """Return the id of a user as text, as sessions have it. Raises what list_sessions() raises."""
    if isinstance(user, str):
        if not user:
            raise ValueError("The id of a user is empty, so it names nobody.")
        return user
    if getattr(user, "is_anonymous", False):
        raise ValueError("An anonymous user has no sessions. Ask `user.is_authenticated` first.")
    if not hasattr(user, "_meta"):
        raise ValueError(
            f"A user must be a user object, or its id as text, and not {type(user).__name__}."
        )
    if user.pk is None or _has_made_up_its_id(user):
        raise ValueError(
            "This user was never saved, or has been deleted, and so has no sessions. Those of a "
            "deleted user are found by the user's id as text."
        )
    return str(user._meta.pk.value_to_string(user))


def _has_made_up_its_id(user: Any) -> bool:
    """Return whether a user was never saved, and has an id only by default, such as a new UUID."""
    state = getattr(user, "_state", None)  # of a Django model
    return state is not None and state.adding and user._meta.pk.has_default()


def hashes_of(user: Any) -> Hashes:
    """Return the hashes with which sessions of a user still authenticate; None if unknown."""
    if isinstance(user, str) or not hasattr(user, "get_session_auth_hash"):
        return None
    fallbacks = getattr(user, "get_session_auth_fallback_hash", tuple)
    return {documents.hash_of(each) for each in (user.get_session_auth_hash(), *fallbacks())}


def current_id(request: HttpRequest | None) -> bytes | None:
    """Return the id of the document of a request's own session; None if it has none."""
    session = None if request is None else session_of(request)
    return None if session is None else documents.document_id(session.session_key)


def session_of(request: HttpRequest) -> SessionStore | None:
    """Return the request's session if it is one of this engine's; a lazy one is evaluated."""
    getattr(getattr(request, "session", None), "session_key", None)  # evaluates it
    return own_session(request)


def gate_of(request: HttpRequest | None) -> Gate:
    """Return what lets the middleware know of an outage that a request meets."""
    session = None if request is None else session_of(request)
    return OPEN if session is None else session._gate


# A session that a new password has ended names its user until Django has looked at it.


def _is_signed_in(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    return user is None or bool(user.is_authenticated)


async def _ais_signed_in(request: HttpRequest) -> bool:
    if hasattr(request, "auser"):
        return bool((await request.auser()).is_authenticated)
    return await sync_to_async(_is_signed_in)(request)  # Django 4.2
