"""What a request has sent to MongoDB, and what the engine has logged meanwhile.

A PyMongo `CommandListener` is called in the thread or task that sends the command, and so is a
handler of Python's logging. So a context variable tells whose command or warning it is. This needs
COALESCE to be off: otherwise, one request may send what another one asks for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware
from django.utils.text import Truncator
from pymongo.monitoring import CommandListener

# Carries what an action has sent to the page that follows.
COOKIE = "mongo_sessions_demo_sent"
_MAX_COMMANDS = 12  # which a cookie has room for
_MAX_LENGTH = 400  # characters of a command
_MAX_STRING = 16  # characters of a text in it
_ACTIONS = {"do", "signin", "signout"}  # names of URLs
# What a command does. The rest, such as the database and the session of the connection, is the same
# for all of them.
_SHOWN = ("filter", "documents", "updates", "deletes", "pipeline", "sort", "limit")


class Command(NamedTuple):
    """A command that was sent: its name, and what it asks for."""

    name: str
    text: str


class Sent(NamedTuple):
    """What an action has sent to MongoDB."""

    action: str
    total: int
    commands: list[Command]  # the first ones


@dataclass
class Watched:
    """What was sent and logged within a block."""

    commands: list[Command] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def sent(self, action: str = "") -> Sent:
        """Return the commands as a page shows them."""
        return Sent(action, len(self.commands), self.commands[:_MAX_COMMANDS])


_watched: ContextVar[Watched | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[Watched]:
    """Collect what the block sends and logs."""
    token = _watched.set(watched := Watched())
    try:
        yield watched
    finally:
        _watched.reset(token)


class Listener(CommandListener):
    """Passes each command to whoever watches."""

    def started(self, event: Any) -> None:
        watched = _watched.get()
        if watched is not None:
            watched.commands.append(Command(event.command_name, _shape(event.command)))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


class Handler(logging.Handler):
    """Passes each log record to whoever watches."""

    def emit(self, record: logging.LogRecord) -> None:
        watched = _watched.get()
        if watched is not None:
            watched.warnings.append(record.getMessage())


def _shape(command: Mapping[str, Any]) -> str:
    """Return what a command asks for, with the size of binary values instead of their bytes."""
    parts = [f"{name}: {_shown(command[name])}" for name in _SHOWN if name in command]
    return Truncator(", ".join(parts)).chars(_MAX_LENGTH)


def _shown(value: Any, name: str = "") -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {_shown(each, key)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_shown(each, name) for each in value)}]"
    if isinstance(value, bytes):
        return f"{value.hex()[:12]}…" if name == "_id" else f"({len(value)} bytes)"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, str):
        value = Truncator(value).chars(_MAX_STRING)
    return json.dumps(value, ensure_ascii=False, default=str)


# From an action to the page that follows


@sync_and_async_middleware
def watch(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Set `request.watched`; come first, so that the session is saved in time to be seen."""
    if iscoroutinefunction(get_response):

        async def amiddleware(request: Any) -> HttpResponse:
            with watching() as request.watched:
                answer: Awaitable[HttpResponse] = get_response(request)
                return _hand_on(request, await answer)

        return amiddleware

    def middleware(request: Any) -> HttpResponse:
        with watching() as request.watched:
            return _hand_on(request, get_response(request))

    return middleware


def _hand_on(request: Any, response: HttpResponse) -> HttpResponse:
    match = request.resolver_match
    if match and match.url_name in _ACTIONS and response.status_code == 302:
        sent = request.watched.sent(match.kwargs.get("name", match.url_name))
        value = signing.dumps(sent, compress=True)
        response.set_cookie(COOKIE, value, max_age=60, httponly=True, samesite="Lax")
    return response


def handed_on(request: HttpRequest) -> Sent | None:
    """Return what the action before this page has sent; None if there was none."""
    try:
        action, total, commands = signing.loads(request.COOKIES[COOKIE])
    except (KeyError, signing.BadSignature):
        return None
    return Sent(action, total, [Command(*each) for each in commands])
