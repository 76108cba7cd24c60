"""Django's `SessionMiddleware`, for requests that stay in their event loop.

What becomes of session and cookie is decided by Django's code, which blocks. Here it is given a
stand-in for the session. Where an answer takes I/O in an event loop, the stand-in breaks off; the
middleware awaits what is needed, and lets Django's code begin again. That touches the response only
once it has all its answers.
"""

from __future__ import annotations

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from django_mongo_sessions import outages, redaction, refusals
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.stand_in import Needed, StandIn

_STAND_IN = "_session_stand_in"  # the attribute of a request


class SessionMiddleware(middleware.SessionMiddleware):
    """In the place of Django's, whatever the engine; with this package's it never blocks a loop.

    It also moves the expiry of sessions that are only read, as often as TOUCH_INTERVAL says, lets
    every response that sets the cookie vary on it, and answers with status 503 where MongoDB was
    away. Raises SessionInterrupted as Django's does, and what else the store's `save()` raises.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session, which is not read before it is used."""
        super().process_request(request)
        if isinstance(request.session, SessionStore):
            request.session._is_of_a_request = True

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """See Django's: what happens round a view."""
        is_awaited: bool = iscoroutinefunction(self)  # Django 4.2 has no `async_mode`
        if is_awaited:
            return self.__acall__(request)  # type: ignore[return-value]  # for a stack that awaits it
        try:
            return super().__call__(request)  # type: ignore[return-value]
        except Exception as error:
            return self._after(request, error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Let no report of what a view has raised show values of the session."""
        if isinstance(getattr(request, "session", None), SessionStore):
            redaction.forget_values(exception)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session where that is due, and set or delete the cookie."""
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        if stand_in := vars(request).get(_STAND_IN):
            return self._respond(request, response, stand_in)  # or __acall__ awaits what it needs
        stand_in = StandIn(session, response)
        try:
            while True:
                try:
                    return self._respond(request, response, stand_in)
                except Needed as needed:
                    verb = needed.verb
                stand_in.provide(verb)
        finally:
            session._is_of_a_request, session._outage = False, None

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        """See Django's: what happens round a view in an asynchronous stack."""
        # Which does no I/O, and answers the request itself if a subclass says so.
        response: HttpResponse | None = self.process_request(request)  # type: ignore[func-returns-value]
        if response is None:
            try:
                response = await self.get_response(request)  # type: ignore[misc]
            except Exception as error:
                return self._after(request, error)
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return await sync_to_async(self.process_response)(request, response)
        vars(request)[_STAND_IN] = stand_in = StandIn(session, response)
        try:
            while True:
                try:
                    return self.process_response(request, response)
                except Needed as needed:
                    verb = needed.verb
                await stand_in.aprovide(verb)
        finally:
            del vars(request)[_STAND_IN]
            session._is_of_a_request, session._outage = False, None

    def _after(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Answer where the page of an error has met the outage again, which Django lets through."""
        outage = getattr(getattr(request, "session", None), "_outage", None)
        if outage is None or not refusals.is_outage(error) or settings.DEBUG_PROPAGATE_EXCEPTIONS:
            raise error
        return outages.answer(request, HttpResponse(), error)

    def _respond(
        self, request: HttpRequest, response: HttpResponse, stand_in: StandIn
    ) -> HttpResponse:
        """Let Django's code decide by what the stand-in answers; raises Needed where it cannot."""
        if stand_in.is_away(response):
            response = outages.answer(request, response, stand_in.outage)
            _hand_over_the_key(stand_in.session, request, response)
            return response
        if stand_in.is_unread():
            patch_vary_headers(response, ("Cookie",))
            return response
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


def _hand_over_the_key(session: SessionStore, request: HttpRequest, response: HttpResponse) -> None:
    """Set the cookie of a session that has moved to another key before MongoDB was found away.

    The one that the browser has would open nothing any more.
    """
    name, key = settings.SESSION_COOKIE_NAME, session.session_key
    if session._current() is None or request.COOKIES.get(name) in (None, key):
        return
    closes = session.get_expire_at_browser_close()
    response.set_cookie(
        *(name, key or "", None if closes else session.get_expiry_age()),
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=settings.SESSION_COOKIE_HTTPONLY,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )
    patch_vary_headers(response, ("Cookie",))
