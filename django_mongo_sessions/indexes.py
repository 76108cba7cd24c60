"""The indexes of the collection of sessions. No verb's correctness depends on them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from itertools import chain, count
from typing import Any, NamedTuple

from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions import operations
from django_mongo_sessions.conf import conf
from django_mongo_sessions.documents import TTL_INDEX, Index
from django_mongo_sessions.drivers import Verb

logger = logging.getLogger("django_mongo_sessions")

# Building on more would outlast a request, and a new TTL index starts a mass delete.
_MOST_DOCUMENTS = 10_000
# Error codes of the server: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_UNAUTHORIZED = 13
_PRIVILEGES = {  # by the command that is refused
    "listIndexes": "listIndexes",
    "createIndexes": "createIndex",
    "collMod": "collMod",
    "dropIndexes": "dropIndex",
}
_CONFLICTS = {85, 86}  # another index has the same keys, or the same name

_ensured: set[tuple[str, str | None, str]] = set()


class Found(NamedTuple):
    """An index of the collection, or one that should be there, and what is to be said of it."""

    name: str
    state: str  # ok, missing, wrong TTL, not TTL, wrong keys, foreign
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Return whether there is something to mend."""
        return self.state not in ("ok", "foreign")


def judged(known: Mapping[str, Mapping[str, Any]]) -> list[Found]:
    """Return what is to be said of the indexes that a server knows, ours first."""
    ours = _judged(TTL_INDEX, known)
    others = [name for name in known if name not in ("_id_", ours.name)]
    return [ours, *(Found(name, "foreign", _keys(known[name])) for name in others)]


def _judged(index: Index, known: Mapping[str, Mapping[str, Any]]) -> Found:
    alike = [name for name, info in known.items() if _has_keys(index, info)]
    for name in alike:
        if known[name].get("expireAfterSeconds") == index.options["expireAfterSeconds"]:
            return Found(name, "ok")
    for name in alike:
        if "expireAfterSeconds" in known[name]:
            seconds = known[name]["expireAfterSeconds"]
            return Found(name, "wrong TTL", f"expireAfterSeconds is {seconds}, not 0")
        return Found(name, "not TTL", "expireAfterSeconds is not set")
    if index.name in known:
        return Found(index.name, "wrong keys", _keys(known[index.name]))
    return Found(index.name, "missing")


def _has_keys(index: Index, info: Mapping[str, Any]) -> bool:
    """Return whether an index of the server's covers the same dates, in either direction."""
    if "partialFilterExpression" in info:
        return False
    return [tuple(pair) for pair in info["key"]] in (index.keys, _reversed(index.keys))


def _reversed(keys: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(field, -direction) for field, direction in keys]


def _keys(info: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{field}: {direction}" for field, direction in info["key"])
    unique = ", unique: it may refuse our sessions" if info.get("unique") else ""
    return f"on {keys}{unique}"


# Verbs


def reporting() -> Verb[list[Found]]:
    """Return what is to be said of the collection's indexes."""
    known = yield operations.index_information()
    return judged(known)


def mending() -> Verb[list[str]]:
    """Bring our index into the state that it should be in, and say what was done. No document and
    no index of others is touched.
    """
    known = yield operations.index_information()
    ours = judged(known)[0]
    if not ours.is_wrong:
        return []
    if ours.state in ("wrong TTL", "not TTL"):
        try:
            yield operations.set_ttl(ours.name, TTL_INDEX.options["expireAfterSeconds"])
            return [f"changed {ours.name} with collMod"]
        except OperationFailure as error:
            if error.code == _UNAUTHORIZED:
                raise
            # Before MongoDB 5.1 only an index that is a TTL index already can be changed.
    built = yield from _building(known)
    done = [f"created {built}"]
    if ours.name in known and ours.name.startswith(TTL_INDEX.name):  # and is not another's
        yield operations.drop_index(ours.name)
        done.append(f"dropped {ours.name}")
    return done


def _building(known: Mapping[str, Any]) -> Verb[str]:
    """Create our index beside what is there, and return its name."""
    names = chain([TTL_INDEX.name], (f"{TTL_INDEX.name}_{number}" for number in count(2)))
    name = next(name for name in names if name not in known)
    try:
        yield operations.create_index(TTL_INDEX._replace(name=name), patient=True)
    except OperationFailure as error:
        if error.code not in _CONFLICTS:
            raise
        # One with the same keys is there. The other direction does the same, and may be beside it.
        keys = _reversed(TTL_INDEX.keys)
        yield operations.create_index(TTL_INDEX._replace(name=name, keys=keys), patient=True)
    return name


def ensure_once() -> Verb[None]:
    """Create the TTL index, once per process and collection, where the collection is small.

    Never fails: what is in the way is said in one warning.
    """
    place = conf.URI, conf.DATABASE, conf.COLLECTION
    if place in _ensured:
        return
    _ensured.add(place)
    try:
        yield from ensuring(_MOST_DOCUMENTS)
    except GeneratorExit:  # the request was cancelled; the next one may have more luck
        _ensured.discard(place)
        raise


def ensuring(most: float = math.inf) -> Verb[None]:
    """Create the TTL index if it is missing and the collection has no more than so many documents.

    Never fails: what is in the way is said in one warning.
    """
    try:
        ours = (yield from reporting())[0]
        if not ours.is_wrong:
            return
        documents = yield operations.estimated_count()
        if ours.state != "missing":
            why = f"its index {ours.name} is in the way: {ours.state}, {ours.detail}"
        elif documents > most:
            why = f"it holds {documents:,} documents, too many to index during a request"
        else:
            yield operations.create_index(TTL_INDEX, patient=most == math.inf)
            return
    except PyMongoError as error:
        why = reason(error)
    logger.warning(
        "There is no TTL index on the collection %r: %s. Expired sessions are never read, but "
        "MongoDB does not remove them. With 'django_mongo_sessions' in INSTALLED_APPS, run "
        "`manage.py mongosessions indexes --apply`; until then, `manage.py clearsessions` now and "
        "then.",
        conf.COLLECTION,
        why,
    )


def reason(error: PyMongoError) -> str:
    """Return why the server did not do it, with the name of the privilege that is lacking."""
    if isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED:
        for command, privilege in _PRIVILEGES.items():
            if command in str(error):
                return f"the user of the URI lacks the privilege {privilege}"
    return str(error)
