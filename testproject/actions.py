"""What the page's forms do to the session, and the messages about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django import forms
from django.contrib.sessions.backends.base import SessionBase
from django.utils.text import Truncator

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


class Action(NamedTuple):
    """A form of the page: the call on `request.session` that it shows, and how it is made."""

    name: str
    call: str
    about: str
    button: str
    perform: Callable[..., str]
    form: type[forms.Form] = forms.Form

    def unbound(self) -> forms.Form:
        """Return the empty form. Its ids are unique among all forms on the page."""
        return self.form(auto_id=f"{self.name}-%s", label_suffix="")


GROUPS = {
    "Data": [
        Action(
            "set_key",
            "[key] = value",
            "Stores a value. The first value begins a session.",
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
            "The session ends this many seconds after its last change.",
            "Set expiry",
            _set_expiry,
            Seconds,
        ),
        Action(
            "set_expiry_timedelta",
            ".set_expiry(timedelta(minutes=30))",
            "The session ends this long from now, even if it changes in the meantime.",
            "Set expiry",
            _set_expiry,
            Minutes,
        ),
        Action(
            "set_expiry_datetime",
            ".set_expiry(datetime(…))",
            "The session ends at this moment.",
            "Set expiry",
            _set_expiry,
            Moment,
        ),
        Action(
            "set_expiry_browser",
            ".set_expiry(0)",
            "The session ends when the browser is closed: its cookie has no expiry date.",
            "End at browser close",
            partial(_set_expiry, value=0),
        ),
        Action(
            "set_expiry_default",
            ".set_expiry(None)",
            "The session uses the default of the site again, SESSION_COOKIE_AGE.",
            "Use the default",
            partial(_set_expiry, value=None),
        ),
    ],
    "Remaining time": [
        Action(
            "get_expiry_age",
            ".get_expiry_age()",
            "Returns how many seconds are left.",
            "Get the age",
            _get_expiry_age,
        ),
        Action(
            "get_expiry_date",
            ".get_expiry_date()",
            "Returns when the session ends.",
            "Get the date",
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
            "Deletes all expired sessions now. MongoDB does so by itself about once a minute.",
            "Clear expired sessions",
            _clear_expired,
        ),
    ],
}
ACTIONS = {action.name: action for actions in GROUPS.values() for action in actions}


def _shortly(value: Any) -> str:
    # Messages are stored in a cookie, and one that is too long for it would be lost.
    return Truncator(as_json(value)).chars(120)
