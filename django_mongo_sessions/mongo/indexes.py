"""The indexes of the collection of sessions. Every verb is correct without them."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from itertools import chain, count
from typing import Any, NamedTuple

from django.apps import apps
from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import errors, testruns
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Operation, Step, Steps
from django_mongo_sessions.storage.documents import TTL_INDEX, USER_INDEX, Index

logger = logging.getLogger("django_mongo_sessions")

# Indexing more documents would take longer than a request may, and a new TTL index starts a mass
# delete.
_MAX_DOCUMENTS = 10_000
_REQUEST_TIMEOUT = 1.0  # seconds that a request waits for the index
_MEND_ATTEMPTS = 3

INDEXES = (TTL_INDEX, USER_INDEX)
_APP = "django_mongo_sessions"

_TTL = "expireAfterSeconds"
_PARTIAL = "partialFilterExpression"
_COLLATION = "collation"
_UNIQUE = {
    TTL_INDEX.name: "it rejects a session that expires at the same moment as another",
    USER_INDEX.name: "it rejects a second session of a user",
}

_ensured: set[tuple[Any, ...]] = set()


class IndexReport(NamedTuple):
    """What is known of one index of the collection, or of one that should exist."""

    name: str
    state: str  # ok, missing, foreign, or what is wrong with one of ours
    detail: str = ""
    serves: Index | None = None  # the index that it is, or should be; None for a foreign one

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
    if any(index.state == "missing" for index in found) and not (
        yield operations.estimated_count()
    ):
        return [index for index in found if index.state != "missing"]
    return found


def compare(known: Mapping[str, Mapping[str, Any]]) -> list[IndexReport]:
    """Compare the indexes that exist, by name, with those that should.

    First those that serve, by whatever name, then those that are wrong, then foreign ones.
    """
    collation = known.get("_id_", {}).get(_COLLATION)  # the collection's own
    found = [_compare(name, info, collation) for name, info in known.items() if name != "_id_"]
    served = [index.serves for index in found]
    found += [
        IndexReport(wanted.name, "missing", serves=wanted)
        for wanted in INDEXES
        if wanted not in served
    ]
    order = {"ok": 0, "foreign": 2}
    return sorted(found, key=lambda index: order.get(index.state, 1))


def _compare(name: str, info: Mapping[str, Any], collation: object) -> IndexReport:
    for wanted in INDEXES:
        state, detail = _state(wanted, info, collation)
        if state == "ok" or re.fullmatch(rf"{wanted.name}(_\d+)?", name):
            return IndexReport(name, state, detail, wanted)
    return IndexReport(name, "foreign", _describe(info))


def _state(wanted: Index, info: Mapping[str, Any], collation: object) -> tuple[str, str]:
    """Return whether an index serves for one that should exist, or why it does not.

    It may be descending or sparse. A TTL index may be hidden, and have any collation: dates have
    none, and the server removes documents without a query.
    """
    if [tuple(pair) for pair in info["key"]] not in (wanted.keys, _descending(wanted)):
        return "wrong keys", _describe(info)
    partial = info.get(_PARTIAL)
    if partial is not None and dict(partial) != wanted.options.get(_PARTIAL):
        return "partial", "it covers only some of the sessions"
    if info.get("unique"):
        return "unique", _UNIQUE[wanted.name]
    if wanted is USER_INDEX:
        if info.get("hidden"):
            return "hidden", "no query uses it"
        if info.get(_COLLATION) != collation:
            return "collation", "no query uses it"
        return "ok", ""
    if _TTL not in info:
        return "not TTL", "expireAfterSeconds is not set"
    if info[_TTL] != wanted.options[_TTL]:
        return "wrong TTL", f"expireAfterSeconds is {info[_TTL]}, not 0"
    return "ok", ""


def _descending(index: Index) -> list[tuple[str, int]]:
    """Return the keys of the same index in the other direction, which does the same."""
    return [(field, -1) for field, _ in index.keys]


def _describe(info: Mapping[str, Any]) -> str:
    fields = list(info["key"])
    keys = ", ".join(f"{field}: {direction}" for field, direction in fields)
    unique = ", unique: it may reject sessions" if info.get("unique") else ""
    ttl = f", removes sessions {info[_TTL]} s after {fields[0][0]}" if _TTL in info else ""
    return f"on {keys}{unique}{ttl}"


# Creating and mending


def ensure_once() -> Steps[None]:
    """Create the TTL index if the collection is small, once per process and collection.

    No error of PyMongo's is raised, and it takes about a second at most, because a request waits
    for it. If it cannot be done, one warning says why.
    """
    server = conf.DATABASE_ALIAS or conf.URI
    place = server, conf.DATABASE, conf.COLLECTION, *testruns.place()
    if place in _ensured:
        return
    _ensured.add(place)
    try:
        yield from _within(_REQUEST_TIMEOUT, ensure(_MAX_DOCUMENTS))
    except BaseException:  # cancelled, or flushed by another task, so a later request tries again
        _ensured.discard(place)
        raise


def _within(seconds: float, steps: Steps[Any]) -> Steps[None]:
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


def ensure(most: float = math.inf) -> Steps[list[str] | None]:
    """Create the TTL index if it is missing, and the collection has at most that many documents.

    Never fails: if it cannot be done, one warning says why. Returns the name of the index if it was
    created, in a list; None if the existing indexes could not be read.
    """
    problem = "Cannot find out whether there is a TTL index"
    created: list[str] | None = None
    try:
        known = yield operations.index_information()
        created = []
        ours = _serving(TTL_INDEX, compare(known))[0]
        if not ours.is_wrong:
            return []
        problem = "There is no TTL index"
        documents = yield operations.estimated_count()
        if ours.state != "missing":
            why = f"its index {ours.name} is in the way: {ours.state}, {ours.detail}"
        elif documents > most:
            why = f"it holds {documents:,} documents, too many to index during a request"
        else:
            return [(yield from _create(known, TTL_INDEX))]
    except PyMongoError as error:
        why = errors.explain(error)
    is_installed = apps.ready and apps.is_installed(_APP)
    logger.warning(
        "%s on the collection %r: %s. Expired sessions are never read, but without that index "
        "MongoDB does not remove them. %s `manage.py mongosessions indexes --apply`; until then, "
        "run `manage.py clearsessions` regularly.",
        problem,
        conf.COLLECTION,
        why,
        "Run" if is_installed else f"Add {_APP!r} to INSTALLED_APPS and run",
    )
    return created


def ensure_user_index() -> Steps[list[str]]:
    """Create the index by which the sessions of a user are found, if it is missing.

    Never fails: if it cannot be done, one warning says why. Returns the name of the index if it was
    created, in a list.
    """
    try:
        known = yield operations.index_information()
        ours = _serving(USER_INDEX, compare(known))[0]
        if not ours.is_wrong:
            return []
        if ours.state == "missing":
            return [(yield from _create(known, USER_INDEX))]
        why = f"its index {ours.name} is in the way: {ours.state}, {ours.detail}"
    except PyMongoError as error:
        why = errors.explain(error)
    logger.warning(
        "There is no index on the users of the collection %r: %s. Finding the sessions of a user "
        "works without it, but reads every session. Run `manage.py mongosessions indexes --apply`.",
        conf.COLLECTION,
        why,
    )
    return []


def mend() -> Steps[list[str]]:
    """Create or correct the indexes, and return what was done.

    Neither documents nor foreign indexes are changed. From then on the server removes expired
    sessions.
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
    found = compare(known)
    for wanted in INDEXES:
        first, *others = _serving(wanted, found)
        if first.state != "ok":
            if first.state in ("wrong TTL", "not TTL") and (yield from _change(first.name)):
                done.append(f"changed {first.name} with collMod")
            else:
                created = yield from _create(known, wanted)
                done.append(f"created {created}")
                if first.state != "missing":
                    others.append(first)
        for index in others:
            if index.is_wrong:
                yield operations.drop_index(index.name)
                done.append(f"dropped {index.name}")


def _serving(wanted: Index, found: list[IndexReport]) -> list[IndexReport]:
    """Return the reports on an index that should exist, at least one: the best first."""
    return [index for index in found if index.serves is wanted]


def _change(name: str) -> Steps[bool]:
    """Make an index remove expired sessions; return whether the server can do that."""
    try:
        yield operations.set_ttl(name, TTL_INDEX.options[_TTL])
    except OperationFailure as error:
        if error.code not in errors.UNCHANGEABLE:
            raise
        return False
    return True


def _create(known: Mapping[str, Any], wanted: Index) -> Steps[str]:
    """Create an index of ours beside those that exist, and return its name."""
    names = chain([wanted.name], (f"{wanted.name}_{number}" for number in count(2)))
    index = wanted._replace(name=next(name for name in names if name not in known))
    try:
        yield operations.create_index(index)
    except OperationFailure as error:
        if error.code not in errors.CONFLICTS:
            raise
        # An index with these keys exists. One in the other direction does the same, and may exist
        # beside it.
        yield operations.create_index(index._replace(keys=_descending(wanted)))
    return index.name
