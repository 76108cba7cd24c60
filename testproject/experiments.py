"""What becomes of changes under one engine or setting, and under another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from django_mongo_sessions import SessionConflict
from django_mongo_sessions.backends.mongodb import SessionStore
from testproject.overriding import overriding
from testproject.watching import Sent, watching


class Outcome(NamedTuple):
    """What is stored in the end, and what was lost or refused on the way."""

    title: str
    how: str
    stored: dict[str, Any]
    lost: list[str]
    refused: str | None
    sent: Sent | None  # None if it is not PyMongo that sends it


class Experiment(NamedTuple):
    """A page that shows some outcomes side by side. `lead` and `note` are HTML."""

    title: str
    lead: str
    steps: list[tuple[str, str, str]]  # who, does what, and by which code
    run: Callable[[], list[Outcome]]
    note: str
    docs: str  # the file in docs/ that explains it


_DJANGOS = "django.contrib.sessions.backends.db"
_OURS = "django_mongo_sessions.backends.mongodb"
DJANGOS = import_module(_DJANGOS).SessionStore
# What should be stored, and what to say if it is not.
Expected = dict[str, tuple[Any, str]]
Opener = Callable[[], Any]  # loads the session, as another request does


def _outcome(
    title: str,
    how: str,
    act: Callable[[Opener], str | None],
    begun: dict[str, Any],
    expected: Expected,
    store: Any = SessionStore,
    **settings: Any,
) -> Outcome:
    """Store a session, let some requests act on it, and compare the outcome with the expected."""
    session = store()
    session.update(begun)
    session.save()
    try:
        with watching() as watched, overriding(**settings):
            refused = act(lambda: _loaded(store(session.session_key)))
        stored = dict(store(session.session_key).items())
    finally:
        session.delete()
    lost = [words for key, (value, words) in expected.items() if stored.get(key) != value]
    sent = watched.sent() if store is SessionStore else None
    return Outcome(title, how, stored, [] if refused else lost, refused, sent)


def _loaded(session: Any) -> Any:
    session.keys()
    return session


# Two tabs at once


def _two_tabs(open_session: Opener) -> None:
    tabs = [open_session() for _ in range(2)]
    tabs[0]["cart"] = "violin"
    tabs[1]["theme"] = "dark"
    for tab in tabs:
        if hasattr(tab, "mutate"):
            tab.mutate(_count)
        else:
            _count(tab)
        tab.save()


def _count(data: Any) -> None:
    data["visits"] += 1


def _run_two_tabs() -> list[Outcome]:
    begun = {"language": "en", "visits": 1}
    expected: Expected = {
        "cart": ("violin", "Tab 1's violin. The cart is gone."),
        "theme": ("dark", "Tab 2's theme."),
        "visits": (3, "A visit. There were two more, and one is counted."),
    }
    return [
        _outcome("Django's own engine", _DJANGOS, _two_tabs, begun, expected, DJANGOS),
        _outcome("This engine", _OURS, _two_tabs, begun, expected),
    ]


# One key, two tabs


def _same_key(open_session: Opener) -> str | None:
    tabs = [open_session() for _ in range(2)]
    tabs[0].update({"language": "de", "cart": "violin"})
    tabs[1].update({"language": "fr", "theme": "dark"})
    tabs[0].save()
    try:
        tabs[1].save()
    except SessionConflict:
        return "Tab 2's save raises SessionConflict. So its view is told, and can begin again."
    return None


def _run_same_key() -> list[Outcome]:
    begun = {"language": "en"}
    expected: Expected = {
        "language": ("de", "Tab 1's language. Tab 2 has changed it later."),
        "cart": ("violin", "Tab 1's violin, though tab 2 has not touched the cart."),
        "theme": ("dark", "Tab 2's theme."),
    }
    ours = (
        _outcome(title, f'"ON_CONFLICT": "{it}"', _same_key, begun, expected, ON_CONFLICT=it)
        for title, it in (("This engine merges", "merge"), ("This engine raises", "raise"))
    )
    djangos = _outcome("Django's own engine", _DJANGOS, _same_key, begun, expected, DJANGOS)
    return [djangos, *ours]


# A change inside a value


def _append(open_session: Opener, says_so: bool = False) -> None:
    session = open_session()
    session["cart"].append("bow")
    if says_so:
        session.modified = True
    if session.modified:  # as the middleware does
        session.save()


def _run_nested() -> list[Outcome]:
    begun = {"cart": ["violin"]}
    expected: Expected = {"cart": (["violin", "bow"], "The bow. Nothing has noticed it.")}
    return [
        _outcome(title, how, act, begun, expected, TRACK_NESTED=tracks)
        for title, how, act, tracks in (
            ("Nobody looks", '"TRACK_NESTED": False', _append, False),
            ("The view says so", "session.modified = True", partial(_append, says_so=True), False),
            ("The engine looks", '"TRACK_NESTED": True', _append, True),
        )
    ]


EXPERIMENTS = {
    "two-tabs": Experiment(
        "Two tabs at once",
        "A shop is open in two tabs of one browser. Each tab sends a request, and both requests "
        "use the same session.",
        [
            ("Both tabs", "load the session", "{'language': 'en', 'visits': 1}"),
            ("Tab 1", "puts something into the cart", "session['cart'] = 'violin'"),
            ("Tab 2", "chooses a theme", "session['theme'] = 'dark'"),
            ("Both tabs", "count their visit", "visits + 1"),
            ("Tab 1", "saves", "session.save()"),
            ("Tab 2", "saves", "session.save()"),
        ],
        _run_two_tabs,
        "This engine counts with <code>session.mutate(function)</code>. Django's engine has "
        "no such method, so its second tab counts from what it has loaded.",
        "concurrency",
    ),
    "same-key": Experiment(
        "One key, two tabs",
        "Now both tabs change the same key, so one of the two values has to go. "
        "<code>ON_CONFLICT</code> decides whether anybody is told.",
        [
            ("Both tabs", "load the session", "{'language': 'en'}"),
            ("Tab 1", "changes two keys", "session.update({'language': 'de', 'cart': 'violin'})"),
            ("Tab 2", "changes two keys", "session.update({'language': 'fr', 'theme': 'dark'})"),
            ("Tab 1", "saves", "session.save()"),
            ("Tab 2", "saves", "session.save()"),
        ],
        _run_same_key,
        "Other keys are never in conflict: with <code>merge</code>, the cart of tab 1 and the "
        "theme of tab 2 are both kept.",
        "concurrency",
    ),
    "nested": Experiment(
        "A change inside a value",
        "A view appends to a list in the session. Django notices only "
        "<code>session[key] = value</code>, so this change is easily lost.",
        [
            ("A request", "loads the session", "{'cart': ['violin']}"),
            ("Its view", "appends to the list", "session['cart'].append('bow')"),
            ("The middleware", "saves what is modified", "if session.modified: session.save()"),
        ],
        _run_nested,
        "<code>TRACK_NESTED</code> costs time, not commands: at the end of each request "
        "that has read the session, the engine serializes it once more.",
        "concurrency",
    ),
}
