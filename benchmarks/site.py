"""The site of each contender, and whole requests to it through Django's own handlers."""

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
from benchmarks.payloads import next_count
from benchmarks.servers import Addresses


def set_up(contender: Contender, addresses: Addresses) -> None:
    """Configure Django for a contender, and create the table if its engine has one."""
    own = contender.settings(addresses)
    settings.configure(
        **{
            "SECRET_KEY": "not a secret: the benchmarks' key is public",
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
    request.session["count"] = next_count(request.session["count"])
    return HttpResponse(str(request.session["count"]))


async def acount(request: HttpRequest) -> HttpResponse:
    """See count()."""
    number = next_count(await request.session.aget("count"))
    await request.session.aset("count", number)
    return HttpResponse(str(number))


async def aread(request: HttpRequest) -> HttpResponse:
    """Read the session."""
    return HttpResponse(str(await request.session.aget("count")))


urlpatterns = [path("", count), path("async", acount), path("read", aread)]

_handler = cache(WSGIHandler)
_async_handler = cache(ASGIHandler)


def wsgi(key: str) -> None:
    """Send a request with this session's cookie. Raise RuntimeError if the status is not 200."""
    statuses: list[str] = []
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
    response = _handler()(environ, lambda status, headers: statuses.append(status))
    b"".join(response)
    response.close()
    _check(statuses[0].partition(" ")[0])


async def asgi(key: str) -> None:
    """See wsgi()."""
    sent: list[dict[str, Any]] = []
    received = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        # The handler waits here for a disconnect. It cancels this call once it has responded.
        return received.pop() if received else await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

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
    _check(str(sent[0]["status"]))


def _check(status: str) -> None:
    if status != "200":
        raise RuntimeError(f"The response to a measured request has the status {status}.")
