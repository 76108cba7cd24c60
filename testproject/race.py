"""Two tabs of one browser that save at once, and what each engine has stored in the end."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

# In order. Both tabs load the session before either of them saves.
STEPS = [
    ("Both tabs", "load the session", "{'language': 'en', 'visits': 1}"),
    ("Tab 1", "puts something into the cart", "session['cart'] = 'violin'"),
    ("Tab 2", "chooses a theme", "session['theme'] = 'dark'"),
    ("Both tabs", "count their visit", "visits + 1"),
    ("Tab 1", "saves", "session.save()"),
    ("Tab 2", "saves", "session.save()"),
]
_BEGINNING = {"language": "en", "visits": 1}
_EXPECTED = {"language": "en", "visits": 3, "cart": "violin", "theme": "dark"}


class Outcome(NamedTuple):
    """What an engine has stored after the race, and what is lost."""

    title: str
    engine: str
    kept: dict[str, Any]
    lost: list[str]


def run() -> list[Outcome]:
    """Run the race on Django's own engine and on ours, each with a session of its own."""
    return [
        _run("Django's own engine", "django.contrib.sessions.backends.db"),
        _run("This engine", "django_mongo_sessions.backends.mongodb"),
    ]


def _run(title: str, engine: str) -> Outcome:
    store = import_module(engine).SessionStore
    begun = store()
    begun.update(_BEGINNING)
    begun.save()
    tabs = [store(begun.session_key) for _ in range(2)]
    for tab in tabs:
        tab.get("language")  # loads
    tabs[0]["cart"] = "violin"
    tabs[1]["theme"] = "dark"
    for tab in tabs:
        _count_visit(tab)
        tab.save()
    kept = dict(store(begun.session_key).items())
    begun.delete()
    lost = [
        f"{key} is {kept.get(key, 'gone')!r}, not {value!r}"
        for key, value in _EXPECTED.items()
        if kept.get(key) != value
    ]
    return Outcome(title, engine, kept, lost)


def _count_visit(session: Any) -> None:
    if hasattr(session, "mutate"):
        session.mutate(_count)
    else:
        _count(session)


def _count(data: Any) -> None:
    data["visits"] += 1
