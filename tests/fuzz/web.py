"""A request with a cookie of any bytes, through Django's code and our middleware."""

from __future__ import annotations

import io
from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse

from django_mongo_sessions.middleware import SessionMiddleware
from tests.fuzz.world import world


def request(header: bytes) -> HttpRequest:
    """Return a request with this Cookie header, as a sync or an async server makes it."""
    if world.is_async:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", header)]}
        return ASGIRequest(scope, io.BytesIO())
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
    return WSGIRequest({**environ, "HTTP_COOKIE": header.decode("latin-1")})


def cookie(asked: HttpRequest) -> str | None:
    """Return the session key that a request brings."""
    return asked.COOKIES.get(settings.SESSION_COOKIE_NAME)


def respond(asked: HttpRequest, view: str) -> Morsel[str] | None:
    """Serve a request by a view, and return the session's cookie of the response."""
    if world.is_async:
        response = world.loop.run_until_complete(SessionMiddleware(_aviewing(view))(asked))
    else:
        response = SessionMiddleware(_viewing(view))(asked)
    return response.cookies.get(settings.SESSION_COOKIE_NAME)


def _viewing(view: str) -> Callable[[HttpRequest], HttpResponse]:
    def serve(asked):
        if view in ("flush", "cycle_key"):
            getattr(asked.session, view)()
        elif view != "idle":
            _use(asked.session, asked.session._get_session(), view)
        return HttpResponse()

    return serve


def _aviewing(view: str) -> Any:
    async def serve(asked):
        if view in ("flush", "cycle_key"):
            await getattr(asked.session, f"a{view}")()
        elif view != "idle":
            _use(asked.session, await asked.session._aget_session(), view)
        return HttpResponse()

    return serve


def _use(session, data, view):
    if view == "write":
        data["b"] = 1
        session.modified = True
