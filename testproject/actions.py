"""What the page's forms do to the session, and the messages about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django import forms
from django.contrib.sessions.backends.base import SessionBase
from django.http import QueryDict
from django.utils.text import Truncator

from django_mongo_sessions.connection import clients
from django_mongo_sessions.storage import documents
from testproject.forms import GetKey, Minutes, Moment, Seconds, SetKey
from testproject.text import as_json, in_words, moment


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
        return "The session now ends when the browser is closed."
    return f"The session now ends in {in_words(session.get_expiry_age())}."


def _get_expiry_age(session: SessionBase) -> str:
    age = session.get_expiry_age()
    return f"get_expiry_age() is {age} seconds: {in_words(age)}."


def _get_expiry_date(session: SessionBase) -> str:
    return f"get_expiry_date() is {moment(session.get_expiry_date())}."


def _clear_expired(session: SessionBase) -> str:
    count = session.clear_expired()
    return f"clear_expired() removed {count} expired session{'' if count == 1 else 's'}."


def _cycle_key(session: SessionBase) -> str:
    old = session.session_key
    session.cycle_key()
    return f"The key was {old or 'none'} and is now {session.session_key}."


def _flush(session: SessionBase) -> str:
    session.flush()
    return "The session is gone. Its document and its cookie have been deleted."


def _tamper(session: SessionBase) -> str:
    """Flip a bit of the payload. The second time, that mends it."""
    query = {"_id": documents.document_id(session.session_key)}
    nothing = "There is no payload to tamper with. Store a value first."
    if not session.exists(session.session_key):  # if MongoDB is down, the engine says so
        return nothing
    sessions = clients.collection().collection  # as an intruder would: not through the engine
    payload = (sessions.find_one(query) or {}).get("payload")
    if not isinstance(payload, bytes) or len(payload) < 3:
        return nothing
    changed = payload[:-3] + bytes([payload[-3] ^ 1]) + payload[-2:]
    sessions.update_one(query, {"$set": {"payload": changed}})
    return "A byte of the payload was changed in MongoDB, without the engine."


class Action(NamedTuple):
    """A form of the page: what it does, the code that does it, and how it is made.

    `about` is HTML.
    """

    name: str
    title: str
    code: str
    about: str
    button: str
    perform: Callable[..., str]
    form: type[forms.Form] = forms.Form
    docs: str = ""  # the file in docs/ that says more

    def unbound(self) -> forms.Form:
        """Return the empty form. Its ids are unique among all forms on the page."""
        return self.form(auto_id=f"{self.name}-%s", label_suffix="")

    def bound(self, data: QueryDict) -> forms.Form:
        """Return the form with what was sent. If that is refused, its first error has the focus."""
        form = self.form(data, auto_id=f"{self.name}-%s", label_suffix="")
        for place, name in enumerate(form.errors):
            field = form[name]
            described = f"{field.auto_id}_error"
            if field.help_text:
                described = f"{field.auto_id}_helptext {described}"
            field.field.widget.attrs |= {
                "aria-invalid": "true",
                "aria-describedby": described,
                "autofocus": place == 0,
            }
        return form


MAIN = [
    Action(
        "set_key",
        "Store a value",
        "session[key] = value",
        "The first value begins a session.",
        "Store",
        _set_key,
        SetKey,
    ),
    Action(
        "cycle_key",
        "Change the key",
        "session.cycle_key()",
        "Moves the data to a new key and a new document, as signing in does. The old key opens "
        "nothing.",
        "Change the key",
        _cycle_key,
    ),
    Action(
        "tamper",
        "Tamper with the document",
        "collection.update_one(…)",
        "Changes a byte of the payload, as an intruder with access to MongoDB could.",
        "Change a byte",
        _tamper,
        docs="security",
    ),
    Action(
        "flush",
        "Delete the session",
        "session.flush()",
        "Deletes the document and the cookie, as signing out does.",
        "Delete the session",
        _flush,
    ),
]
MORE = {
    "How long a session lasts": [
        Action(
            "set_expiry_seconds",
            "Seconds",
            "session.set_expiry(300)",
            "The session ends this many seconds after its last change.",
            "Set the seconds",
            _set_expiry,
            Seconds,
        ),
        Action(
            "set_expiry_timedelta",
            "A duration",
            "session.set_expiry(timedelta(minutes=30))",
            "The session ends this long from now, even if it changes in the meantime.",
            "Set the duration",
            _set_expiry,
            Minutes,
        ),
        Action(
            "set_expiry_datetime",
            "A moment",
            "session.set_expiry(datetime(…))",
            "The session ends at this moment.",
            "Set the moment",
            _set_expiry,
            Moment,
        ),
        Action(
            "set_expiry_browser",
            "The browser's session",
            "session.set_expiry(0)",
            "The session ends when the browser is closed: its cookie has no expiry date.",
            "End at browser close",
            partial(_set_expiry, value=0),
        ),
        Action(
            "set_expiry_default",
            "The default",
            "session.set_expiry(None)",
            "The session uses the default of the site again, <code>SESSION_COOKIE_AGE</code>.",
            "Use the default",
            partial(_set_expiry, value=None),
        ),
        Action(
            "clear_expired",
            "Expired sessions",
            "session.clear_expired()",
            "Deletes all expired sessions now. MongoDB does so by itself about once a minute.",
            "Clear expired sessions",
            _clear_expired,
        ),
    ],
    "What a view can ask": [
        Action(
            "get_key",
            "A value",
            "session.get(key)",
            "Reads a value. Reading alone never begins a session.",
            "Get the value",
            _get_key,
            GetKey,
        ),
        Action(
            "get_expiry_age",
            "The remaining time",
            "session.get_expiry_age()",
            "Returns how many seconds are left.",
            "Get the age",
            _get_expiry_age,
        ),
        Action(
            "get_expiry_date",
            "The end",
            "session.get_expiry_date()",
            "Returns when the session ends.",
            "Get the date",
            _get_expiry_date,
        ),
    ],
}
ACTIONS = {action.name: action for actions in (MAIN, *MORE.values()) for action in actions}


def _shortly(value: Any) -> str:
    # Messages are stored in a cookie, and one that is too long for it would be lost.
    return Truncator(as_json(value)).chars(120)
