"""What is done with a session, step by step, and what each step may do to documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.fuzz import values
from tests.fuzz.data import Data
from tests.fuzz.world import world


class May(NamedTuple):
    """What a step may do: insert a document, and change the session's, delete it, or leave a
    pointer in its place.
    """

    insert: bool = False
    change: bool = False
    delete: bool = False
    point: bool = False


def _verb(name: str, *args: Any) -> Callable[[SessionStore, Data], Any]:
    return lambda store, data: world.do(store, name, *args)


def _brought(data):
    brought = values.session(data)
    world.brought.append(brought)
    return brought


def _set(store, data):
    world.do(store, "_get_session").update(_brought(data))
    store.modified = True


def _remove(store, data):
    session = world.do(store, "_get_session")
    if session:
        del session[data.choice(sorted(session))]


def _expire(store, data):
    world.brought.append({"_session_expiry": data.integer()})
    world.do(store, "_get_session").update(world.brought[-1])


def _mutate(store, data):
    brought = _brought(data)
    return world.do(store, "mutate", lambda session: session.update(brought))


def _later(store, data):
    world.later(data.choice([1, 61, 3601, 1209601]))


STEPS: dict[str, tuple[Callable[[SessionStore, Data], Any], May]] = {
    "load": (_verb("load"), May()),
    "look": (_verb("_get_session"), May()),
    "exists": (lambda store, data: world.do(store, "exists", store.session_key), May()),
    "set": (_set, May()),
    "remove": (_remove, May()),
    "expire": (_expire, May()),
    "clear": (lambda store, data: store.clear(), May()),
    "modified": (lambda store, data: store.modified, May()),
    "later": (_later, May()),
    "touch": (_verb("_touch"), May(change=True)),
    "save": (_verb("save"), May(insert=True, change=True)),
    "mutate": (_mutate, May(insert=True, change=True)),
    "cycle_key": (_verb("cycle_key"), May(insert=True, point=True)),
    "flush": (_verb("flush"), May(delete=True)),
    "delete": (_verb("delete"), May(delete=True)),
}
# What a view does with the session of its request.
VIEWS = {
    "idle": May(insert=True, change=True),
    "read": May(insert=True, change=True),
    "write": May(insert=True, change=True),
    "cycle_key": May(insert=True, point=True),
    "flush": May(delete=True),
}
