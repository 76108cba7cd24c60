"""The three-way merge of two requests' changes to one session.

It merges top-level keys and never goes deeper, since only the site knows what a value means as a
whole. Values are compared as they are stored, since `1 == True`, and a list is not a tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Dump = Callable[[Mapping[str, Any]], bytes]
Load = Callable[[bytes], dict[str, Any]]

# Equal values of these types are stored alike, so they need not be serialized to compare them.
_PLAIN = {str, int, bool, type(None)}


class Merged(NamedTuple):
    """What to store, and the keys that both sides have changed to different values."""

    data: dict[str, Any]
    conflicts: list[str]


def merge(
    dump: Dump, base: Mapping[str, Any], theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> Merged:
    """Return `theirs` with each key that `ours` has set, changed or deleted since `base`.

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


def same(dump: Dump, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two dicts are stored alike, apart from the order of their keys."""
    return all(_alike(dump, key, one, other) for key in {**one, **other})


def bring_up_to_date(dump: Dump, load: Load, live: dict[Any, Any], data: Mapping[str, Any]) -> None:
    """Change a dict that is in use to these data, in place.

    A value that does not differ stays the same object, since a view may hold it.
    """
    keys = {key if isinstance(key, str) else _stored(dump, load, key): key for key in live}
    for name, key in keys.items():
        if name not in data:
            del live[key]
        elif not _alike(dump, name, {name: live[key]}, data):
            live[key] = data[name]
    live.update({name: value for name, value in data.items() if name not in keys})


def _stored(dump: Dump, load: Load, key: Any) -> Any:
    """Return a key as it is stored: JSON turns 1 into "1"."""
    [name] = load(dump({key: None}))
    return name


def _alike(dump: Dump, key: Any, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    if key not in one or key not in other:
        return key not in one and key not in other
    mine, yours = one[key], other[key]
    if type(mine) is type(yours) and type(mine) in _PLAIN:
        return bool(mine == yours)
    # Without its own key: pickle may refer to the key from inside the value.
    return dump({"": mine}) == dump({"": yours})
