"""The indexes of the collection of sessions. No verb depends on them to be correct."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from itertools import chain, count
from typing import Any, NamedTuple

from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import errors
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Operation, Step, Steps
from django_mongo_sessions.storage.documents import TTL_INDEX

logger = logging.getLogger("django_mongo_sessions")

# Indexing more documents would take longer than a request may, and a new TTL index starts a mass
# delete.
_MAX_DOCUMENTS = 10_000
_REQUEST_TIMEOUT = 1.0  # seconds that a request waits for the index
_MEND_ATTEMPTS = 3

_TTL = "expireAfterSeconds"
# The same index in the other direction, which does the same.
_DESCENDING = [(field, -1) for field, _ in TTL_INDEX.keys]
_OURS = re.compile(rf"{TTL_INDEX.name}(_\d+)?")  # an index of any other name is foreign

_ensured: set[tuple[str, str | None, str]] = set()


class IndexReport(NamedTuple):
    """What is known of one index of the collection, or of one that should exist."""

    name: str
    state: str  # ok, missing, foreign, or what is wrong with one of ours
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Return whether `mend` has something to do."""
        return self.state not in ("ok", "foreign")


# What the server reports


def report() -> Steps[list[IndexReport]]:
    """Report on each index of the collection."""
    known = yield operations.index_information()
    return compare(known)


def wrong() -> Steps[list[IndexReport]]:
    """Report on the indexes that are wrong.

    In a collection without documents no index is missing: `migrate` or the first session creates
    it.
    """
    found = [index for index in (yield from report()) if index.is_wrong]
    if found and found[0].state == "missing" and not (yield operations.estimated_count()):
        return []
    return found


def compare(known: Mapping[str, Mapping[str, Any]]) -> list[IndexReport]:
    """Compare the indexes that exist, by name, with the one that should.

    First the index that removes expired sessions, by whatever name, then those that are wrong, then
    foreign ones.
    """
    found = [_compare(name, info) for name, info in known.items() if name != "_id_"]
    if all(index.state == "foreign" for index in found):
        found.append(IndexReport(TTL_INDEX.name, "missing"))
    order = {"ok": 0, "foreign": 2}
    return sorted(found, key=lambda index: order.get(index.state, 1))


def _compare(name: str, info: Mapping[str, Any]) -> IndexReport:
    state, detail = _state(info)
    if state == "ok" or _OURS.fullmatch(name):
        return IndexReport(name, state, detail)
    return IndexReport(name, "foreign", _describe(info))


def _state(info: Mapping[str, Any]) -> tuple[str, str]:
    """Return whether an index removes expired sessions, or why it does not.

    A descending, sparse or hidden one does, and so does one with a collation: dates have none.
    """
    if [tuple(pair) for pair in info["key"]] not in (TTL_INDEX.keys, _DESCENDING):
        return "wrong keys", _describe(info)
    if "partialFilterExpression" in info:
        return "partial", "it covers only some of the sessions"
    if info.get("unique"):
        return "unique", "it rejects a session that expires at the same moment as another"
    if _TTL not in info:
        return "not TTL", "expireAfterSeconds is not set"
    if info[_TTL] != TTL_INDEX.options[_TTL]:
        return "wrong TTL", f"expireAfterSeconds is {info[_TTL]}, not 0"
    return "ok", ""


def _describe(info: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{field}: {direction}" for field, direction in info["key"])
    unique = ", unique: it may reject sessions" if info.get("unique") else ""
    ttl = f", removes sessions {info[_TTL]} s after {info['key'][0][0]}" if _TTL in info else ""
    return f"on {keys}{unique}{ttl}"


# Creating and mending


def ensure_once() -> Steps[None]:
    """Create the TTL index if the collection is small, once per process and collection.

    Never fails, and takes about a second at most, because a request waits for it. If it cannot be
    done, one warning says why.
    """
    place = conf.URI, conf.DATABASE, conf.COLLECTION
    if place in _ensured:
        return
    _ensured.add(place)
    try:
        yield from _within(_REQUEST_TIMEOUT, ensure(_MAX_DOCUMENTS))
    except GeneratorExit:  # the request was cancelled, so a later one tries again
        _ensured.discard(place)
        raise


def _within(seconds: float, steps: Steps[None]) -> Steps[None]:
    """Run these steps so that all of them together take at most that many seconds."""
    end = time.monotonic() + seconds
    step: Callable[[Any], Step] = steps.send
    argument: Any = None
    try:
        while True:
            operation = step(argument)
            assert isinstance(operation, Operation)
            left = max(end - time.monotonic(), 0.001)
            try:
                step, argument = steps.send, (yield operations.within(operation, left))
            except PyMongoError as error:
                step, argument = steps.throw, error
    except StopIteration:
        return


def ensure(most: float = math.inf) -> Steps[None]:
    """Create the TTL index if it is missing, and the collection has at most that many documents.

    Never fails: if it cannot be done, one warning says why.
    """
    problem = "Cannot find out whether there is a TTL index"
    try:
        known = yield operations.index_information()
        ours = compare(known)[0]
        if not ours.is_wrong:
            return
        problem = "There is no TTL index"
        documents = yield operations.estimated_count()
        if ours.state != "missing":
            why = f"its index {ours.name} is in the way: {ours.state}, {ours.detail}"
        elif documents > most:
            why = f"it holds {documents:,} documents, too many to index during a request"
        else:
            yield from _create(known)
            return
    except PyMongoError as error:
        why = errors.explain(error)
    logger.warning(
        "%s on the collection %r: %s. Expired sessions are never read, but without that index "
        "MongoDB does not remove them. Add 'django_mongo_sessions' to INSTALLED_APPS and run "
        "`manage.py mongosessions indexes --apply`; until then, run `manage.py clearsessions` "
        "regularly.",
        problem,
        conf.COLLECTION,
        why,
    )


def mend() -> Steps[list[str]]:
    """Create or correct the TTL index, and return what was done.

    No document is changed, and no foreign index. From then on the server removes expired sessions.
    If another process does the same at the same time, its work is not an error.
    """
    done: list[str] = []
    for _ in range(_MEND_ATTEMPTS - 1):
        try:
            yield from _mend(done)
            return done
        except OperationFailure as error:
            if error.code not in errors.OVERTAKEN:
                raise
    yield from _mend(done)
    return done


def _mend(done: list[str]) -> Steps[None]:
    known = yield operations.index_information()
    first, *others = compare(known)
    if first.state != "ok":
        if first.state in ("wrong TTL", "not TTL") and (yield from _change(first.name)):
            done.append(f"changed {first.name} with collMod")
        else:
            created = yield from _create(known)
            done.append(f"created {created}")
            others.append(first)
    for index in others:
        if index.is_wrong and index.name in known:
            yield operations.drop_index(index.name)
            done.append(f"dropped {index.name}")


def _change(name: str) -> Steps[bool]:
    """Make an index remove expired sessions; return whether the server can do that."""
    try:
        yield operations.set_ttl(name, TTL_INDEX.options[_TTL])
    except OperationFailure as error:
        if error.code not in errors.UNCHANGEABLE:
            raise
        return False
    return True


def _create(known: Mapping[str, Any]) -> Steps[str]:
    """Create our index beside those that exist, and return its name."""
    names = chain([TTL_INDEX.name], (f"{TTL_INDEX.name}_{number}" for number in count(2)))
    index = TTL_INDEX._replace(name=next(name for name in names if name not in known))
    try:
        yield operations.create_index(index)
    except OperationFailure as error:
        if error.code not in errors.CONFLICTS:
            raise
        # An index with these keys exists. One in the other direction does the same, and may exist
        # beside it.
        yield operations.create_index(index._replace(keys=_DESCENDING))
    return index.name
