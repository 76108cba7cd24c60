"""What stands in for a session while Django's `process_response` decides about it.

What Django's code asks for, such as the expiry or a save, is an *answer* here.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import errors
from django_mongo_sessions.connection.breaker import OPEN, not_tried_again
from django_mongo_sessions.engine import overriding

# A method of the store that an answer needs: its blocking name, and its asynchronous one.
Method = tuple[str, str]
_LOAD: Method = ("_get_session", "_aget_session")
_SAVE: Method = ("save", "asave")
_AGE: Method = ("get_expiry_age", "aget_expiry_age")
_TOUCH: Method = ("_touch", "_atouch")


def own_session(request: HttpRequest) -> SessionStore | None:
    """Return the request's session if it is one of this engine's, also one behind a proxy.

    If it is behind a lazy proxy of Django's that nothing has used yet, that is not evaluated, and
    None is returned.
    """
    session: Any = getattr(request, "session", None)
    is_lazy = issubclass(type(session), LazyObject)  # isinstance() might evaluate another proxy
    if is_lazy and session._wrapped is empty:
        return None
    return session if isinstance(session, SessionStore) else None


class DeferredSession:
    """Takes the place of the session while Django's code decides about session and cookie.

    If an answer needs I/O, it raises NeedsIO. The middleware performs the method and lets Django's
    code begin again, so each method is performed once.
    """

    def __init__(self, session: SessionStore, response: HttpResponse) -> None:
        self.session = session
        self.accessed = session.accessed
        self._is_changed = session.modified
        self._has_failed = response.status_code >= 500  # then nothing is saved, and no cookie set
        is_due = self._is_changed or settings.SESSION_SAVE_EVERY_REQUEST
        self._will_save = is_due and not self._has_failed
        self._is_touch_due = not is_due and not self._has_failed and session._is_touch_due()
        self._outcomes: dict[Method, Any] = {}
        self.outage: PyMongoError | None = None  # raised by a method that was performed

    @property
    def modified(self) -> bool:
        # No write, no cookie: if another request has moved the session to a new key, this cookie
        # would overwrite the one that the browser has been given.
        return self._is_changed or (self._is_touch_due and self._outcome(_TOUCH))

    @property
    def session_key(self) -> str | None:
        return self.session.session_key

    def is_empty(self) -> bool:
        session = self.session
        is_unread = session.session_key and not hasattr(session, "_session_cache")
        if is_unread and self._will_save:
            # Django notices a stale cookie only when it saves, and starts an empty session.
            self._outcome(_LOAD)
        return session.is_empty()

    def get_expire_at_browser_close(self) -> bool:
        if self._will_save:
            self._outcome(_SAVE)  # first, since another request may have set another expiry
        # If no cookie is set, the session need not be loaded.
        return self._has_failed or self.session.get_expire_at_browser_close()

    def get_expiry_age(self) -> int:
        if self.session._overrides("get_expiry_age"):  # it may do I/O
            return self._outcome(_AGE)  # type: ignore[no-any-return]
        return self.session.get_expiry_age()

    def save(self) -> None:
        if not self._is_touch_due and isinstance(error := self._outcome(_SAVE), UpdateError):
            raise error

    def left_document_alone(self) -> bool:
        """Return whether the save stored nothing, since the document is unreadable."""
        stored = self.session._baseline
        return _SAVE in self._outcomes and stored is not None and not stored.readable

    def _outcome(self, method: Method) -> Any:
        """Return what a method has returned, or the UpdateError that it has raised."""
        if method not in self._outcomes:
            raise NeedsIO(self, method)
        return self._outcomes[method]

    def outage_behind(self, response: HttpResponse) -> PyMongoError | None:
        """Return the outage because of which the response cannot be given; None if it can.

        An answer may have met it, or else the view or another middleware, if the response is
        Django's page for an error.
        """
        met = self.session._gate.outage
        if self.outage is None and met is not None and response.status_code == 500:
            return not_tried_again(met)
        return self.outage

    def is_unread(self) -> bool:
        """Return whether the view has coped without the session, which could not be loaded."""
        return self.session._gate.outage is not None and not self._is_changed

    def perform(self, method: Method) -> None:
        """Perform a method that an answer needs."""
        try:
            self._outcomes[method] = getattr(self.session, method[0])()
        except (UpdateError, PyMongoError) as error:
            self._keep(method, error)

    async def aperform(self, method: Method) -> None:
        """See perform(). A proxy of the session may override only the blocking method."""
        if overriding.is_blocking_alone(self.session, *method):
            return await sync_to_async(self.perform)(method)
        try:
            self._outcomes[method] = await getattr(self.session, method[1])()
        except (UpdateError, PyMongoError) as error:
            self._keep(method, error)

    def _keep(self, method: Method, error: UpdateError | PyMongoError) -> None:
        """Keep an error that is part of the answer; raise any other."""
        if isinstance(error, UpdateError):
            self._outcomes[method] = error
        elif errors.is_outage(error) and not settings.DEBUG_PROPAGATE_EXCEPTIONS:
            self.outage = error
        else:
            raise error


class NeedsIO(BaseException):
    """Raised when an answer needs I/O first.

    A BaseException, so that no `except Exception` swallows it.
    """

    def __init__(self, deferred: DeferredSession, method: Method) -> None:
        self.deferred, self.method = deferred, method


class NeedsThread(BaseException):
    """Raised in an event loop when Django's code has to run in a thread. See NeedsIO."""


class Replay:
    """One `process_response` in an event loop, which starts again whenever it needs I/O.

    A subclass may give it several sessions, one after another. Each time that it comes to Django's
    code, it gets the deferred session that it got there before, with the outcomes so far.
    """

    def __init__(self) -> None:
        self._deferred: list[DeferredSession] = []
        self._position = 0
        self._cookie_age = settings.SESSION_COOKIE_AGE

    def __enter__(self) -> None:
        self._position = 0
        self._token: Token[Replay | None] = running_replay.set(self)

    def __exit__(self, *exception: object) -> None:
        running_replay.reset(self._token)

    def next(self, request: HttpRequest, response: HttpResponse) -> DeferredSession:
        """Return the deferred session of the request's session.

        Raises NeedsThread if that is not a session of this engine, or not yet evaluated; if it is
        not the one that was there before; or if a subclass has changed how long sessions last,
        since that change is undone before a method is awaited.
        """
        session = own_session(request)
        if session is None or self._cookie_age != settings.SESSION_COOKIE_AGE:
            raise NeedsThread
        if self._position == len(self._deferred):
            self._deferred.append(DeferredSession(session, response))
        deferred = self._deferred[self._position]
        if deferred.session._itself is not session._itself:
            raise NeedsThread
        self._position += 1
        return deferred

    def end(self) -> None:
        """Open the gates of the sessions: the request is done with them."""
        for deferred in self._deferred:
            deferred.session._gate = OPEN


# The one that has called `process_response` in this task.
running_replay: ContextVar[Replay | None] = ContextVar("running_replay", default=None)
