"""Django's `SessionMiddleware`, for requests that stay in their event loop.

What becomes of session and cookie is decided by Django's code, which blocks. Here it is given a
stand-in for the session. Where an answer takes I/O in an event loop, the stand-in breaks off; the
middleware awaits what is needed, and lets Django's code begin again. That touches the response only
once it has all its answers.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from django_mongo_sessions import outages
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

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session where that is due, and set or delete the cookie."""
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        if stand_in := vars(request).get(_STAND_IN):
            return self._respond(request, response, stand_in)  # or __acall__ awaits what it needs
        stand_in = StandIn(session, response)
        while True:
            try:
                return self._respond(request, response, stand_in)
            except Needed as needed:
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

    def _respond(
        self, request: HttpRequest, response: HttpResponse, stand_in: StandIn
    ) -> HttpResponse:
        """Let Django's code decide by what the stand-in answers; raises Needed where it cannot."""
        if stand_in.is_away(response):
            return outages.answer(request, response, stand_in.outage)
        if stand_in.is_unread():
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
