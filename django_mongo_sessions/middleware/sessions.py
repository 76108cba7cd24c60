"""Django's `SessionMiddleware`, without blocking the event loop.

Django's own code decides what happens to session and cookie, and that code blocks. So it is given
a `DeferredSession` in place of the session. If an answer needs I/O in an event loop, the deferred
session raises; the middleware awaits what is needed, and lets Django's code begin again. Django's
code touches the response only once it has all answers.
"""

from __future__ import annotations

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import errors
from django_mongo_sessions.connection.breaker import OPEN, RequestBreaker
from django_mongo_sessions.middleware.client_info import ClientInfo
from django_mongo_sessions.middleware.deferred import (
    DeferredSession,
    NeedsIO,
    NeedsThread,
    Replay,
    own_session,
    running_replay,
)
from django_mongo_sessions.middleware.unavailable import unavailable
from django_mongo_sessions.mongo.tracebacks import (
    first,
    forget_values,
    has_passed_through_engine,
)


class SessionMiddleware(middleware.SessionMiddleware):
    """Replaces Django's, whatever the engine; with this package's engine it never blocks a loop.

    It also moves the expiry of sessions that are only read, as often as TOUCH_INTERVAL says. Each
    response that sets the cookie varies on it. If MongoDB is down, the response has status 503.
    Raises SessionInterrupted as Django's does, and anything else that the store's `save()` raises.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session, which is loaded when it is first used."""
        try:
            super().process_request(request)
        except Exception as error:  # such as for a wrong setting
            forget_values(error)
            raise
        session = own_session(request)
        if session is not None:
            session._gate = RequestBreaker()
            session._client = ClientInfo(request)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """See Django's: what happens around a view."""
        is_async: bool = iscoroutinefunction(self)  # Django 4.2 has no `async_mode`
        if is_async:
            return self.__acall__(request)  # type: ignore[return-value]  # the stack awaits it
        try:
            return super().__call__(request)  # type: ignore[return-value]
        except Exception as error:
            return self._respond_to_error(request, error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Keep the session's values out of reports of an exception that a view has raised.

        Another session than the request's may have met an outage, such as one whose key came in a
        header. The outage counts as one of this request all the same.
        """
        session = own_session(request)
        if (
            session is not None
            and session._gate.outage is None
            and has_passed_through_engine(exception)
        ):
            breaker = RequestBreaker()  # the session may be one that the view has made
            breaker.leave(0.0, exception)
            if breaker.outage is not None:
                session._gate = breaker
        forget_values(exception)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session if that is due, and set or delete the cookie."""
        replay = running_replay.get()
        if replay is not None:  # then __acall__ awaits what it needs
            return self._respond(request, response, replay.next(request, response))
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        deferred = DeferredSession(session, response)
        try:
            while True:
                try:
                    return self._respond(request, response, deferred)
                except NeedsIO as needed:
                    method = needed.method
                deferred.perform(method)
        finally:
            session._gate = OPEN

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        """See Django's: what happens around a view in an asynchronous stack."""
        # It does no I/O, and a subclass's may return a response.
        response: HttpResponse | None = self.process_request(request)  # type: ignore[func-returns-value]
        if response is None:
            try:
                response = await self.get_response(request)  # type: ignore[misc]
            except Exception as error:
                return self._respond_to_error(request, error)
        if own_session(request) is None:
            return await sync_to_async(self.process_response)(request, response)
        replay = Replay()
        try:
            while True:
                try:
                    with replay:
                        return self.process_response(request, response)
                except NeedsIO as needed:
                    deferred, method = needed.deferred, needed.method
                except NeedsThread:
                    break
                await deferred.aperform(method)
            return await sync_to_async(self.process_response)(request, response)
        finally:
            replay.end()

    def _respond_to_error(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Return a 503 if rendering the page of an error has met the outage again.

        Django lets such an error pass; any other is raised.
        """
        session = own_session(request)
        is_due = session is not None and session._gate.outage and errors.is_outage(error)
        if session is None or not is_due or settings.DEBUG_PROPAGATE_EXCEPTIONS:
            raise error
        response = unavailable(request, first(error))
        _hand_over_new_key(session, request, response)
        return response

    def _respond(
        self, request: HttpRequest, response: HttpResponse, deferred: DeferredSession
    ) -> HttpResponse:
        """Let Django's code decide, given the deferred session. Raises NeedsIO if it cannot."""
        outage = deferred.outage_behind(response)
        if outage is not None:
            response = unavailable(request, outage, None if deferred.outage else response)
            _hand_over_new_key(deferred.session, request, response)
            return response
        if deferred.is_unread():
            patch_vary_headers(response, ("Cookie",))
            return response
        request.session = deferred  # type: ignore[assignment]
        try:
            response = super().process_response(request, response)
        finally:
            request.session = deferred.session
        if deferred.session._has_moved:  # then a 5xx of the site's has the cookie too
            _hand_over_new_key(deferred.session, request, response)
        if deferred.left_document_alone():
            response.cookies.pop(settings.SESSION_COOKIE_NAME, None)
        if settings.SESSION_COOKIE_NAME in response.cookies:
            # As Django does since 5.2.14 and 6.0.5 (CVE-2026-35192), and here for every Django.
            patch_vary_headers(response, ("Cookie",))
        return response


def _hand_over_new_key(session: SessionStore, request: HttpRequest, response: HttpResponse) -> None:
    """Set the cookie of a session that has moved to a new key, whatever the status.

    The key in the browser may open nothing any more.
    """
    name, key = settings.SESSION_COOKIE_NAME, session.session_key
    if session._baseline is None or request.COOKIES.get(name) in (None, key):
        return
    closes = session.get_expire_at_browser_close()
    response.set_cookie(
        name,
        key or "",
        None if closes else session.get_expiry_age(),
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=settings.SESSION_COOKIE_HTTPONLY,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )
    patch_vary_headers(response, ("Cookie",))
