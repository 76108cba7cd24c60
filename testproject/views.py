"""The article's two views, and a page to watch a session and to change it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from testproject import race as racing
from testproject.actions import ACTIONS, GROUPS
from testproject.text import as_json, in_words, moment

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
    session = request.session
    data = {key: as_json(value) for key, value in session.items()}  # drops an unknown key
    document = session.describe()
    context = {
        "data": data,
        "age_in_words": in_words(session.get_expiry_age()),
        "document": document and _shown(document),
        "groups": {
            title: [(action, action.unbound()) for action in actions]
            for title, actions in GROUPS.items()
        },
    }
    return render(request, "testproject/index.html", context)


@require_POST
def do(request: HttpRequest, name: str) -> HttpResponse:
    """Perform an action on the session, and show a message about it on the page."""
    if name not in ACTIONS:
        raise Http404(f"There is no action {name!r}.")
    action = ACTIONS[name]
    form = action.form(request.POST)
    if form.is_valid():
        messages.success(request, action.perform(request.session, **form.cleaned_data))
    for field, errors in form.errors.items():
        messages.error(request, f"{form[field].label}: {' '.join(errors)}")
    return redirect("index")


@never_cache
def race(request: HttpRequest) -> HttpResponse:
    """Explain what happens if two tabs save at once, and with POST, run that race."""
    outcomes = racing.run() if request.method == "POST" else None
    context = {"steps": racing.STEPS, "outcomes": outcomes}
    return render(request, "testproject/race.html", context)


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


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """Return a described document for the template: its id, its payload, and the other fields."""
    payload = document["payload"]
    fields = {name: value for name, value in document.items() if name not in ("_id", "payload")}
    return {
        "id": document["_id"],
        "payload": payload if isinstance(payload, dict) else None,
        "fields": [
            (name, moment(value) if isinstance(value, datetime) else value, _NOTES.get(name, ""))
            for name, value in fields.items()
        ],
        "anonymous": "user_id" not in document,
    }
