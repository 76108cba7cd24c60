"""Django's `SessionMiddleware`, for requests that stay in their event loop.

What becomes of session and cookie is decided by Django's code, which blocks. Here it is given a
stand-in for the session. Where an answer takes I/O in an event loop, the stand-in breaks off; the
middleware awaits what is needed, and lets Django's code begin again. That touches the response only
once it has all its answers.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions import middleware
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from django_mongo_sessions.backends.mongodb import SessionStore

# What the answers may take of a store: a verb, and its twin.
Verb = tuple[str, str]
_LOAD: Verb = ("_get_session", "_aget_session")
_SAVE: Verb = ("save", "asave")
_TOUCH: Verb = ("_touch", "_atouch")

_STAND_IN = "_session_stand_in"  # the attribute of a request


class SessionMiddleware(middleware.SessionMiddleware):
    """In the place of Django's, whatever the engine; with this package's it never blocks a loop.

    It also moves the expiry of sessions that are only read, as often as TOUCH_INTERVAL says, and
    lets every response that sets the cookie vary on it. Raises SessionInterrupted as Django's does,
    and what the store's `save()` raises.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session where that is due, and set or delete the cookie."""
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        if stand_in := vars(request).get(_STAND_IN):
            return self._respond(request, response, stand_in)  # or __acall__ awaits what it needs
        stand_in = _StandIn(session, response)
        while True:
            try:
                return self._respond(request, response, stand_in)
            except _Needed as needed:
                verb = needed.verb
            stand_in.provide(verb)

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        """See Django's: what happens round a view in an asynchronous stack."""
        # Which does no I/O, and answers the request itself if a subclass says so.
        response: HttpResponse | None = self.process_request(request)  # type: ignore[func-returns-value]
        if response is None:
            response = await self.get_response(request)  # type: ignore[misc]
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return await sync_to_async(self.process_response)(request, response)
        vars(request)[_STAND_IN] = stand_in = _StandIn(session, response)
        try:
            while True:
                try:
                    return self.process_response(request, response)
                except _Needed as needed:
                    verb = needed.verb
                await stand_in.aprovide(verb)
        finally:
            del vars(request)[_STAND_IN]

    def _respond(
        self, request: HttpRequest, response: HttpResponse, stand_in: _StandIn
    ) -> HttpResponse:
        """Let Django's code decide by what the stand-in answers; raises _Needed where it cannot."""
        request.session = stand_in  # type: ignore[assignment]
        try:
            response = super().process_response(request, response)
        finally:
            request.session = stand_in.session
        if stand_in.left_the_document_alone():
            response.cookies.pop(settings.SESSION_COOKIE_NAME, None)
        if settings.SESSION_COOKIE_NAME in response.cookies:
            # As Django does since 5.2.14 and 6.0.5 (CVE-2026-35192), and here on all of them.
            patch_vary_headers(response, ("Cookie",))
        return response


class _StandIn:
    """A session at the end of its request, for the questions of Django's `process_response`.

    Of the verbs that the answers take, each is done once.
    """

    def __init__(self, session: SessionStore, response: HttpResponse) -> None:
        self.session = session
        self.accessed = session.accessed
        self._is_changed = session.modified
        self._has_failed = response.status_code >= 500  # then nothing is saved, and no cookie set
        is_due = self._is_changed or settings.SESSION_SAVE_EVERY_REQUEST
        self._is_to_be_saved = is_due and not self._has_failed
        self._is_touch_due = not is_due and not self._has_failed and session._is_touch_due()
        self._outcomes: dict[Verb, Any] = {}

    @property
    def modified(self) -> bool:
        # No write, no cookie: where the session has moved to another key meanwhile, its cookie
        # would take the place of the one that the browser has been given.
        return self._is_changed or (self._is_touch_due and self._outcome(_TOUCH))

    @property
    def session_key(self) -> str | None:
        return self.session.session_key

    def is_empty(self) -> bool:
        session = self.session
        is_unread = session.session_key and not hasattr(session, "_session_cache")
        if is_unread and self._is_to_be_saved:
            # Django finds out that a cookie is stale as it saves, and begins an empty session.
            self._outcome(_LOAD)
        return session.is_empty()

    def get_expire_at_browser_close(self) -> bool:
        if self._is_to_be_saved:
            self._outcome(_SAVE)  # first: another request may have set another expiry
        # Where no cookie is set, there is no need to read the session.
        return self._has_failed or self.session.get_expire_at_browser_close()

    def get_expiry_age(self) -> int:
        return self.session.get_expiry_age()

    def save(self) -> None:
        if not self._is_touch_due and isinstance(error := self._outcome(_SAVE), UpdateError):
            raise error

    def left_the_document_alone(self) -> bool:
        """Return whether the save stored nothing, as it does where the document does not open."""
        stored = self.session._current()
        return _SAVE in self._outcomes and stored is not None and not stored.opened

    def _outcome(self, verb: Verb) -> Any:
        """Return what a verb has returned, or the UpdateError that it has raised."""
        if verb not in self._outcomes:
            raise _Needed(verb)
        return self._outcomes[verb]

    def provide(self, verb: Verb) -> None:
        """Do a verb that an answer takes."""
        try:
            self._outcomes[verb] = getattr(self.session, verb[0])()
        except UpdateError as error:
            self._outcomes[verb] = error

    async def aprovide(self, verb: Verb) -> None:
        """See provide(). A project may have overridden the blocking verb alone."""
        if self._is_overridden(verb):
            return await sync_to_async(self.provide)(verb)
        try:
            self._outcomes[verb] = await getattr(self.session, verb[1])()
        except UpdateError as error:
            self._outcomes[verb] = error

    def _is_overridden(self, verb: Verb) -> bool:
        """Return whether a subclass defines the blocking verb, and none below it the twin."""
        classes = type(self.session).__mro__
        return verb[1] not in next(vars(cls) for cls in classes if {*verb} & vars(cls).keys())


class _Needed(BaseException):
    """A verb has to be awaited first. Neither Django nor a project catches what is this."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
