"""The three-way merge of two requests' changes to one session.

It merges top-level keys and never goes deeper, since only the site knows what a value means as a
whole. Values are compared as they are stored, since `1 == True`, and a list is not a tuple. But the
order of a set is no change: it differs from one process to another, and after each load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

Dump = Callable[[Mapping[str, Any]], bytes]
Load = Callable[[bytes], dict[str, Any]]

# Equal values of these types are stored alike, so they need not be serialized to compare them.
_PLAIN = {str, int, bool, type(None)}


class Merged(NamedTuple):
    """What to store, the keys that `ours` has changed, and those of them that are in conflict.

    A key is in conflict if both sides have changed it to different values.
    """

    data: dict[str, Any]
    changes: list[str]
    conflicts: list[str]


def merge(
    dump: Dump,
    load: Load,
    base: Mapping[str, Any],
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
) -> Merged:
    """Return `theirs` with each key that `ours` has set, changed or deleted since `base`.

    All three must be as they are loaded from a body.
    """
    data, conflicts, origin = dict(theirs), [], _Base(dump, load, base)
    changed = origin.changes(ours)
    for key in changed:
        if key in ours:
            data[key] = ours[key]
        else:
            data.pop(key, None)
        if origin.is_changed(key, theirs) and not _alike(dump, key, theirs, ours):
            conflicts.append(key)
    return Merged(data, changed, conflicts)


def changes(dump: Dump, load: Load, base: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Return the keys that were set, changed or deleted since `base`.

    Both must be as they are loaded from a body.
    """
    return _Base(dump, load, base).changes(data)


@dataclass
class _Base:
    """What the changes of a session are compared with."""

    dump: Dump
    load: Load
    data: Mapping[str, Any]

    @cached_property
    def again(self) -> Mapping[str, Any]:
        """The same, serialized and loaded once more.

        A session that was loaded and left alone has been serialized once more too when it is
        compared, and a serializer may bring a value back otherwise than it was.
        """
        return self.load(self.dump(self.data))

    def is_changed(self, key: str, data: Mapping[str, Any]) -> bool:
        return not (
            _alike(self.dump, key, self.data, data) or _alike(self.dump, key, self.again, data)
        )

    def changes(self, data: Mapping[str, Any]) -> list[str]:
        return [key for key in {**data, **self.data} if self.is_changed(key, data)]


def bring_up_to_date(
    dump: Dump, load: Load, live: dict[Any, Any], now: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """Change a dict that is in use to these data, in place.

    `now` is the dict as it would be loaded. A value that does not differ stays the same object,
    since a view may hold it.
    """
    keys = {key if isinstance(key, str) else _stored(dump, load, key): key for key in live}
    for name, key in keys.items():
        if name not in data:
            del live[key]
        elif not _alike(dump, name, now, data):
            live[key] = data[name]
    live.update({name: value for name, value in data.items() if name not in keys})


def _stored(dump: Dump, load: Load, key: Any) -> Any:
    """Return a key as it is stored: JSON turns 1 into "1"."""
    [name] = load(dump({key: None}))
    return name


def _alike(dump: Dump, key: Any, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Return whether a key is stored alike in both, apart from the order of sets."""
    if key not in one or key not in other:
        return key not in one and key not in other
    mine, yours = one[key], other[key]
    if mine is yours:
        return True
    if type(mine) is type(yours) and type(mine) in _PLAIN:
        return bool(mine == yours)
    # Without its own key: pickle may refer to the key from inside the value.
    if dump({"": mine}) == dump({"": yours}):
        return True
    try:
        return bool(_form(dump, mine) == _form(dump, yours))
    except RecursionError:  # deeper than the serializer minds, or it contains itself
        return False


def _form(dump: Dump, value: Any) -> Any:
    """Return what is equal for values that are stored alike, apart from the order of sets."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is dict:
        return kind, [(_form(dump, key), _form(dump, item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [_form(dump, item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted([_form(dump, item) for item in value], key=repr)
    return dump({"": value})
