"""The three-way merge of what two requests have made of one session. No I/O happens here.

It is a merge of top-level keys, never a deep one: what a value means as a whole only the site
knows. Values are compared as they are stored, since `1 == True` and a list is not a tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Dump = Callable[[Mapping[str, Any]], bytes]
Load = Callable[[bytes], dict[str, Any]]

# Of these, what is equal is stored alike: no need to serialize it to see that.
_PLAIN = {str, int, bool, type(None)}


class Merged(NamedTuple):
    """What is to be stored, and which keys both sides have changed to different values."""

    data: dict[str, Any]
    conflicts: list[str]


def merge(
    dump: Dump, base: Mapping[str, Any], theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> Merged:
    """Return theirs with what we have set, changed or deleted since the base.

    All three must be as they are loaded from a body.
    """
    data, conflicts = dict(theirs), []
    for key in {**ours, **base}:
        if _alike(dump, key, base, ours):
            continue
        if key in ours:
            data[key] = ours[key]
        else:
            data.pop(key, None)
        if not (_alike(dump, key, theirs, base) or _alike(dump, key, theirs, ours)):
            conflicts.append(key)
    return Merged(data, conflicts)


def bring_up_to_date(dump: Dump, load: Load, live: dict[Any, Any], data: Mapping[str, Any]) -> None:
    """Change a dict that is in use into what was stored, in place.

    What does not differ keeps its very objects: a view may hold a list of the session's.
    """
    keys = {key if isinstance(key, str) else _stored(dump, load, key): key for key in live}
    for name, key in keys.items():
        if name not in data:
            del live[key]
        elif not _alike(dump, name, {name: live[key]}, data):
            live[key] = data[name]
    live.update({name: value for name, value in data.items() if name not in keys})


def _stored(dump: Dump, load: Load, key: Any) -> Any:
    """Return a key as it is stored: JSON makes "1" of 1."""
    [name] = load(dump({key: None}))
    return name


def _alike(dump: Dump, key: Any, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    if key not in one or key not in other:
        return key not in one and key not in other
    mine, yours = one[key], other[key]
    if type(mine) is type(yours) and type(mine) in _PLAIN:
        return bool(mine == yours)
    # Under no name of its own: pickle refers to the name from inside of the value, where it can.
    return dump({"": mine}) == dump({"": yours})
