"""The three-way merge of what two requests have made of one session. No I/O happens here.

It is a merge of top-level keys, never a deep one: what a value means as a whole only the site
knows. Values are compared as they are stored, since `1 == True` and a list is not a tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Dump = Callable[[Mapping[str, Any]], bytes]
Load = Callable[[bytes], dict[str, Any]]


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
    before, other, own = (_dumped(dump, side) for side in (base, theirs, ours))
    data, conflicts = dict(theirs), []
    for key in {**ours, **base}:
        if own.get(key) == before.get(key):
            continue
        if key in ours:
            data[key] = ours[key]
        else:
            data.pop(key, None)
        if other.get(key) not in (before.get(key), own.get(key)):
            conflicts.append(key)
    return Merged(data, conflicts)


def bring_up_to_date(dump: Dump, load: Load, live: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Change a dict that is in use into what was stored, in place.

    What does not differ keeps its very objects: a view may hold a list of the session's.
    """
    stored = _dumped(dump, data)
    names = set()
    for key in list(live):
        body = dump({key: live[key]})
        [name] = load(body)  # as it is stored: JSON makes "1" of 1
        names.add(name)
        if name not in data:
            del live[key]
        elif body != stored[name]:
            live[key] = data[name]
    live.update({name: value for name, value in data.items() if name not in names})


def _dumped(dump: Dump, data: Mapping[str, Any]) -> dict[str, bytes]:
    return {key: dump({key: value}) for key, value in data.items()}
