"""The article's two views, and a page on which a session can be watched and played with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.contrib.sessions.backends.base import SessionBase
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import Truncator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from django_mongo_sessions import clients, codec, documents
from testproject import race as racing
from testproject.forms import GetKey, Minutes, Moment, Seconds, SetKey

# The article's views


def SetSession(request: HttpRequest) -> HttpResponse:
    """Store a book's name in the session."""
    request.session["book_name"] = "Sherlock Holmes"
    return _text("The Session has been successfully set")


async def ASetSession(request: HttpRequest) -> HttpResponse:
    """See SetSession()."""
    await request.session.aset("book_name", "Sherlock Holmes")
    return _text("The Session has been successfully set")


def GetSession(request: HttpRequest) -> HttpResponse:
    """Answer the book's name that the session holds."""
    book_name = request.session.get("book_name")
    return _text(f"The Book Name is: {book_name}")


async def AGetSession(request: HttpRequest) -> HttpResponse:
    """See GetSession()."""
    book_name = await request.session.aget("book_name")
    return _text(f"The Book Name is: {book_name}")


def _text(text: str) -> HttpResponse:
    # Not HTML: the page lets its visitor store anything as the book's name.
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


# The page


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the session as a view sees it, the document that MongoDB holds, and the forms."""
    session = request.session
    data = {key: _as_json(value) for key, value in session.items()}  # drops a key without a session
    document_id = documents.stored_id(session.session_key)
    document = document_id and clients.sessions()[0].find_one({"_id": document_id})
    context = {
        "data": data,
        "age_in_words": _in_words(session.get_expiry_age()),
        "document": document and _described(document),
        "groups": {
            title: [(action, action.unbound()) for action in actions]
            for title, actions in GROUPS.items()
        },
    }
    return render(request, "testproject/index.html", context)


@require_POST
def do(request: HttpRequest, name: str) -> HttpResponse:
    """Do one of the actions to the session, and say on the page what came of it."""
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
    """Tell of two tabs that save at once, and with POST run their race."""
    outcomes = racing.run() if request.method == "POST" else None
    context = {"steps": racing.STEPS, "outcomes": outcomes}
    return render(request, "testproject/race.html", context)


# What the forms do: each does it to a session, and returns what to say


def _set_key(session: SessionBase, key: str, value: Any) -> str:
    session[key] = value
    return f"{key!r} is now {_shortly(value)}."


def _get_key(session: SessionBase, key: str) -> str:
    if key not in session:
        return f"There is no {key!r} in the session, so get() returns None."
    return f"{key!r} is {_shortly(session.get(key))}."


def _set_expiry(session: SessionBase, value: int | timedelta | datetime | None) -> str:
    session.set_expiry(value)
    if session.get_expire_at_browser_close():
        return "The session now ends with the browser."
    return f"The session now ends in {_in_words(session.get_expiry_age())}."


def _get_expiry_age(session: SessionBase) -> str:
    age = session.get_expiry_age()
    return f"get_expiry_age() is {age} seconds: {_in_words(age)}."


def _get_expiry_date(session: SessionBase) -> str:
    return f"get_expiry_date() is {_moment(session.get_expiry_date())}."


def _clear_expired(session: SessionBase) -> str:
    count = session.clear_expired()
    return f"clear_expired() removed {count} expired session{'' if count == 1 else 's'}."


def _cycle_key(session: SessionBase) -> str:
    old = session.session_key
    session.cycle_key()
    return f"The key was {old or 'none'} and is now {session.session_key}."


def _flush(session: SessionBase) -> str:
    session.flush()
    return "The session is gone: its document from MongoDB, its cookie from your browser."


class Action(NamedTuple):
    """A form of the page: the call on `request.session` that it shows, and what makes it."""

    name: str
    call: str
    about: str
    button: str
    perform: Callable[..., str]
    form: type[forms.Form] = forms.Form

    def unbound(self) -> forms.Form:
        """Return the form to fill in, with ids of its own among the others on the page."""
        return self.form(auto_id=f"{self.name}-%s", label_suffix="")


GROUPS = {
    "Data": [
        Action(
            "set_key",
            "[key] = value",
            "Stores a value. The first one begins a session.",
            "Set",
            _set_key,
            SetKey,
        ),
        Action(
            "get_key",
            ".get(key)",
            "Reads a value. Reading alone never begins a session.",
            "Get",
            _get_key,
            GetKey,
        ),
    ],
    "Lifetime": [
        Action(
            "set_expiry_seconds",
            ".set_expiry(300)",
            "Ends so many seconds after the last change.",
            "Set expiry",
            _set_expiry,
            Seconds,
        ),
        Action(
            "set_expiry_timedelta",
            ".set_expiry(timedelta(minutes=30))",
            "Ends that long from now, whatever happens meanwhile.",
            "Set expiry",
            _set_expiry,
            Minutes,
        ),
        Action(
            "set_expiry_datetime",
            ".set_expiry(datetime(…))",
            "Ends at that very moment.",
            "Set expiry",
            _set_expiry,
            Moment,
        ),
        Action(
            "set_expiry_browser",
            ".set_expiry(0)",
            "Ends with the browser: the cookie gets no date of its own.",
            "End with the browser",
            partial(_set_expiry, value=0),
        ),
        Action(
            "set_expiry_default",
            ".set_expiry(None)",
            "Goes back to the default of the site, SESSION_COOKIE_AGE.",
            "Back to the default",
            partial(_set_expiry, value=None),
        ),
    ],
    "What is left of it": [
        Action(
            "get_expiry_age",
            ".get_expiry_age()",
            "Answers the seconds that are left.",
            "Ask for the age",
            _get_expiry_age,
        ),
        Action(
            "get_expiry_date",
            ".get_expiry_date()",
            "Answers the moment at which the session ends.",
            "Ask for the date",
            _get_expiry_date,
        ),
    ],
    "The whole session": [
        Action(
            "cycle_key",
            ".cycle_key()",
            "Moves the data to a new key, as signing in does.",
            "Change the key",
            _cycle_key,
        ),
        Action(
            "flush",
            ".flush()",
            "Deletes the session and its cookie, as signing out does.",
            "Delete the session",
            _flush,
        ),
        Action(
            "clear_expired",
            ".clear_expired()",
            "Removes all expired sessions now. By itself, MongoDB does so each minute.",
            "Clear expired sessions",
            _clear_expired,
        ),
    ],
}
ACTIONS = {action.name: action for actions in GROUPS.values() for action in actions}


# What the page shows

_FORMS = {codec.SEALED: "sealed", codec.COMPRESSED: "sealed and compressed"}
_NOTES = {
    "revision": "one more with each new payload",
    "created_at": "",
    "seen_at": "the last write",
    "expires_at": "from then on it is never read, and MongoDB removes it",
    "user_id": "so that a user's sessions can be found",
}


def _described(document: dict[str, Any]) -> dict[str, Any]:
    """Return a stored session for the eye: its id, its payload's parts, and every other field."""
    payload = document["payload"] if isinstance(document.get("payload"), bytes) else None
    rest = {name: value for name, value in document.items() if name not in ("_id", "payload")}
    ordered = {name: rest.pop(name) for name in _NOTES if name in rest}
    return {
        "id": document["_id"].hex(),
        "payload": None if payload is None else _parts(payload),
        "fields": [
            (name, _moment(value) if isinstance(value, datetime) else value, _NOTES.get(name, ""))
            for name, value in {**ordered, **rest}.items()
        ],
        "anonymous": "user_id" not in document,
    }


def _parts(payload: bytes) -> dict[str, Any]:
    form, seal, body = payload[:1], payload[1:33], payload[33:]
    return {
        "form": form.hex(),
        "form_name": _FORMS.get(form, "unknown"),
        "seal": seal.hex(),
        "size": len(body),
        "text": body.decode(errors="replace") if form == codec.SEALED else None,
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=repr)


def _shortly(value: Any) -> str:
    # Messages travel in a cookie, and one too long for it would be lost.
    return Truncator(_as_json(value)).chars(120)


def _moment(date: datetime) -> str:
    return f"{date:%Y-%m-%d %H:%M:%S} {date.tzname() or ''}".rstrip()


def _in_words(seconds: int) -> str:
    """Return a time in its two largest units."""
    words = []
    for unit, length in {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}.items():
        count, seconds = divmod(seconds, length)
        if count:
            words.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " and ".join(words[:2]) or "0 seconds"
