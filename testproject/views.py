"""The article's two views, and a page to watch a session and to change it."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.messages.storage.base import Message
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from django_mongo_sessions import ServerUnavailable
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.conf import conf
from django_mongo_sessions.users import UserSession, list_sessions
from testproject import USERS, server
from testproject.actions import ACTIONS, MAIN, MORE, Action
from testproject.experiments import EXPERIMENTS
from testproject.mongod import MongodError
from testproject.text import as_json, in_words, moment
from testproject.watching import COOKIE, handed_on

# The article's views


def SetSession(request: HttpRequest) -> HttpResponse:
    """Store the name of a book in the session."""
    request.session["book_name"] = "Sherlock Holmes"
    return _text("The Session has been successfully set")


async def ASetSession(request: HttpRequest) -> HttpResponse:
    """See SetSession()."""
    await request.session.aset("book_name", "Sherlock Holmes")
    return _text("The Session has been successfully set")


def GetSession(request: HttpRequest) -> HttpResponse:
    """Return the name of the book that the session holds."""
    book_name = request.session.get("book_name")
    return _text(f"The Book Name is: {book_name}")


async def AGetSession(request: HttpRequest) -> HttpResponse:
    """See GetSession()."""
    book_name = await request.session.aget("book_name")
    return _text(f"The Book Name is: {book_name}")


def _text(text: str) -> HttpResponse:
    # Not HTML: on the page, a visitor can store anything as the name of the book.
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


# The page


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the session as a view sees it, the document that MongoDB holds, and the forms."""
    return _page(request)


@never_cache
def do(request: HttpRequest, name: str) -> HttpResponse:
    """With POST, perform an action on the session, and go back to its form."""
    if name not in ACTIONS:
        raise Http404(f"There is no action {name!r}.")
    if request.method == "POST":
        form = ACTIONS[name].bound(request.POST)
        if not form.is_valid():
            return _page(request, refused={name: form}, status=422)
        said = ACTIONS[name].perform(request.session, **form.cleaned_data)
        messages.success(request, said, extra_tags=name)
    return redirect(f"{reverse('index')}#do-{name}")


def _page(
    request: HttpRequest, refused: dict[str, forms.Form] | None = None, status: int = 200
) -> HttpResponse:
    session = request.session
    data = {key: as_json(value) for key, value in session.items()}  # drops an unknown key
    document = session.describe()
    refused = refused or {}
    said, others_said = _messages(request)
    sent = handed_on(request)

    def card(action: Action) -> dict[str, Any]:
        return {
            "action": action,
            "form": refused.get(action.name) or action.unbound(),
            "said": said.get(action.name),
            "sent": sent if sent and sent.action == action.name else None,
        }

    context = {
        "data": data,
        "age_in_words": in_words(session.get_expiry_age()),
        "document": document and _shown(document),
        "rejected": request.watched.warnings,
        "sessions": _sessions(request),
        "main": [card(action) for action in MAIN],
        "more": [
            (title, [card(action) for action in actions], {*said, *refused} & names)
            for title, actions in MORE.items()
            for names in [{action.name for action in actions}]
        ],
        "two_tabs": EXPERIMENTS["two-tabs"],
        "more_experiments": list(EXPERIMENTS.items())[1:],
        "users": USERS,
        "said": said,
        "others_said": others_said,
        "sent": sent,
        "server": server.own,
        "is_mock": _is_mock(),
    }
    response = render(request, "testproject/index.html", context, status=status)
    if sent:
        response.delete_cookie(COOKIE, samesite="Lax")
    return response


def _messages(request: HttpRequest) -> tuple[dict[str, Message], list[Message]]:
    """Return the messages about the page's forms, by the name of each, and all others."""
    said, others = {}, []
    for message in messages.get_messages(request):
        if message.extra_tags:
            said[message.extra_tags] = message
        else:
            others.append(message)
    return said, others


def _is_mock() -> bool:
    return conf.URI.startswith("mongomock://")


def _sessions(request: HttpRequest) -> list[UserSession]:
    if not request.user.is_authenticated:
        return []
    return list_sessions(request.user, request=request)


@never_cache
def experiment(request: HttpRequest, name: str) -> HttpResponse:
    """Explain an experiment, and with POST, run it."""
    if name not in EXPERIMENTS:
        raise Http404(f"There is no experiment {name!r}.")
    chosen = EXPERIMENTS[name]
    outcomes = chosen.run() if request.method == "POST" else None
    context = {"name": name, "experiment": chosen, "outcomes": outcomes, "is_mock": _is_mock()}
    return render(request, "testproject/experiment.html", context)


# MongoDB itself. These views use no session, so they work while it is down.


@never_cache
@require_safe
def mongodb(request: HttpRequest) -> HttpResponse:
    """Show whether MongoDB runs, and let the visitor stop and start it."""
    return _mongodb(request)


def _mongodb(request: HttpRequest, failure: object = None, status: int = 200) -> HttpResponse:
    context = {"server": server.own, "failure": failure}
    return render(request, "testproject/mongodb.html", context, status=status)


@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    """Stop the demo's MongoDB, and go to the page: a 503, unless the visitor has no session."""
    _own_server().stop()
    return redirect(f"{reverse('index')}#do-mongodb")


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Start the demo's MongoDB again, and go to the page."""
    try:
        _own_server().start()
    except MongodError as error:
        return _mongodb(request, failure=error, status=500)
    _let_the_engine_find_it()
    messages.success(
        request, "MongoDB runs again, and sessions are what they were.", extra_tags="mongodb"
    )
    return redirect(f"{reverse('index')}#do-mongodb")


def _let_the_engine_find_it() -> None:
    # It tries once a second at most, and another page of the visitor's may just have tried.
    for _ in range(20):
        with suppress(ServerUnavailable):
            SessionStore().exists(32 * "0")
            return
        time.sleep(0.2)


def _own_server() -> server.Server:
    if server.own is None:
        raise Http404("The demo has not started MongoDB, so it does not stop it.")
    return server.own


# The documentation


@require_safe
def docs(request: HttpRequest, name: str) -> HttpResponse:
    """Show a page of the documentation: where it is published, else its source."""
    if settings.DOCS:
        return redirect(f"{settings.DOCS}{name}.html")
    try:
        text = (_DOCS / f"{name}.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Http404(f"There is no docs/{name}.md.") from None
    return _text(text)


_DOCS = Path(__file__).resolve().parent.parent / "docs"

_NOTES = {
    "write_id": "the identity of the last write, which saves compare",
    "revision": "increases by one with each new payload",
    "created_at": "",
    "seen_at": "when the document was last written",
    "expires_at": "after this, the session is never read, and MongoDB removes it",
    "user_id": "lets you find the sessions of a user",
    "auth_hash": "tells which sessions a new password has ended",
    "impersonator_id": "who uses the session in the user's name",
    "user_agent": "the browser",
    "address": "where the browser is",
}


# The fields that the page shows without being asked.
_FIRST = ("user_id", "expires_at")


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """Return a described document for the template: its id, its payload, and the other fields."""
    payload = document["payload"]
    fields = [
        (name, moment(value) if isinstance(value, datetime) else value, _NOTES.get(name, ""))
        for name, value in document.items()
        if name not in ("_id", "payload")
    ]
    return {
        "id": document["_id"],
        "payload": payload if isinstance(payload, dict) else None,
        "first": [field for field in fields if field[0] in _FIRST],
        "others": [field for field in fields if field[0] not in _FIRST],
        "anonymous": "user_id" not in document,
    }
