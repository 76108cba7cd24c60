"""What is to be said of the indexes that a server knows. No I/O happens here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from django_mongo_sessions.documents import TTL_INDEX

_TTL = "expireAfterSeconds"
# The same index the other way round, which does the same.
DESCENDING = [(field, -1) for field, _ in TTL_INDEX.keys]
_OURS = re.compile(rf"{TTL_INDEX.name}(_\d+)?")  # any other name is somebody else's


class Found(NamedTuple):
    """An index of the collection, or one that should be there, and what is to be said of it."""

    name: str
    state: str  # ok, missing, foreign, or what is wrong with one of ours
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Return whether there is something to mend."""
        return self.state not in ("ok", "foreign")


def judged(known: Mapping[str, Mapping[str, Any]]) -> list[Found]:
    """Return what is to be said of the indexes that a server knows.

    First what removes the sessions that have expired, by whatever name, then what is wrong, then
    what others have.
    """
    report = [_judged(name, info) for name, info in known.items() if name != "_id_"]
    if all(found.state == "foreign" for found in report):
        report.append(Found(TTL_INDEX.name, "missing"))
    order = {"ok": 0, "foreign": 2}
    return sorted(report, key=lambda found: order.get(found.state, 1))


def _judged(name: str, info: Mapping[str, Any]) -> Found:
    state, detail = _state(info)
    if state == "ok" or _OURS.fullmatch(name):
        return Found(name, state, detail)
    return Found(name, "foreign", _keys(info))


def _state(info: Mapping[str, Any]) -> tuple[str, str]:
    """Return whether an index removes what has expired, or why not.

    A descending, sparse or hidden one does, and one with a collation: dates have none.
    """
    if [tuple(pair) for pair in info["key"]] not in (TTL_INDEX.keys, DESCENDING):
        return "wrong keys", _keys(info)
    if "partialFilterExpression" in info:
        return "partial", "it covers a part of the sessions"
    if info.get("unique"):
        return "unique", "it refuses a session that expires at the same moment as another"
    if _TTL not in info:
        return "not TTL", "expireAfterSeconds is not set"
    if info[_TTL] != TTL_INDEX.options[_TTL]:
        return "wrong TTL", f"expireAfterSeconds is {info[_TTL]}, not 0"
    return "ok", ""


def _keys(info: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{field}: {direction}" for field, direction in info["key"])
    unique = ", unique: it may refuse our sessions" if info.get("unique") else ""
    ttl = f", removes sessions {info[_TTL]} s after {info['key'][0][0]}" if _TTL in info else ""
    return f"on {keys}{unique}{ttl}"
