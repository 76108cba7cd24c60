"""Whole requests, through Django's own handlers; and the site that they are for."""

from __future__ import annotations

import asyncio
import io
from functools import cache
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks.contenders import Contender
from benchmarks.payloads import following
from benchmarks.servers import Addresses


def set_up(contender: Contender, addresses: Addresses) -> None:
    """Configure the least that a site needs, and make the table of a contender that has one."""
    own = contender.settings(addresses)
    settings.configure(
        **{
            "SECRET_KEY": "the benchmarks' key, known to everybody who reads this line",
            "ALLOWED_HOSTS": ["127.0.0.1"],
            "INSTALLED_APPS": ["django.contrib.sessions"],
            "MIDDLEWARE": [contender.middleware],
            "ROOT_URLCONF": "benchmarks.site",
            "USE_TZ": True,
            **own,
        }
    )
    django.setup()
    if "DATABASES" in own:
        call_command("migrate", verbosity=0)


def count(request: HttpRequest) -> HttpResponse:
    """Read the session and change a value."""
    request.session["count"] = following(request.session["count"])
    return HttpResponse(str(request.session["count"]))


async def acount(request: HttpRequest) -> HttpResponse:
    """See count()."""
    number = following(await request.session.aget("count"))
    await request.session.aset("count", number)
    return HttpResponse(str(number))


urlpatterns = [path("", count), path("async", acount)]

_handler = cache(WSGIHandler)
_async_handler = cache(ASGIHandler)


def wsgi(key: str) -> None:
    """Answer a request with this session's cookie. Raises RuntimeError unless with 200."""
    answered: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_COOKIE": f"{settings.SESSION_COOKIE_NAME}={key}",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
    }
    response = _handler()(environ, lambda status, headers: answered.append(status))
    b"".join(response)
    response.close()
    _check(answered[0].partition(" ")[0])


async def asgi(key: str) -> None:
    """See wsgi()."""
    answered: list[dict[str, Any]] = []
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        # The handler listens on for a disconnection until it has answered, and then cancels this.
        return asked.pop() if asked else await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/async",
        "query_string": b"",
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "headers": [(b"cookie", f"{settings.SESSION_COOKIE_NAME}={key}".encode())],
    }
    await _async_handler()(scope, receive, send)
    _check(str(answered[0]["status"]))


def _check(status: str) -> None:
    if status != "200":
        raise RuntimeError(f"A measured request was answered with status {status}.")
