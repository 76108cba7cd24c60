"""The indexes of the collection of sessions. No verb's correctness depends on them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from itertools import chain, count
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions import operations, refusals
from django_mongo_sessions.conf import conf
from django_mongo_sessions.documents import TTL_INDEX
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.verdicts import DESCENDING, Found, judged

logger = logging.getLogger("django_mongo_sessions")

# Building on more would outlast a request, and a new TTL index starts a mass delete.
_MOST_DOCUMENTS = 10_000

_ensured: set[tuple[str, str | None, str]] = set()


def reporting() -> Verb[list[Found]]:
    """Return what is to be said of the collection's indexes."""
    known = yield operations.index_information()
    return judged(known)


def lacking() -> Verb[list[Found]]:
    """Return what is wrong with the collection's indexes. One without documents lacks none yet: it
    gets it with `migrate`, or with its first session.
    """
    wrong = [found for found in (yield from reporting()) if found.is_wrong]
    if wrong and wrong[0].state == "missing" and not (yield operations.estimated_count()):
        return []
    return wrong


def mending() -> Verb[list[str]]:
    """Bring our index into the state that it should be in, and say what was done.

    No document is touched, and no index that does not bear our name. Sessions that have expired
    are removed from then on, by the server.
    """
    known = yield operations.index_information()
    first, *others = judged(known)
    done = []
    if first.state != "ok":
        if first.state in ("wrong TTL", "not TTL") and (yield from _changing(first.name)):
            done.append(f"changed {first.name} with collMod")
        else:
            built = yield from _building(known)
            done.append(f"created {built}")
            others.append(first)
    for found in others:
        if found.is_wrong and found.name in known:
            yield operations.drop_index(found.name)
            done.append(f"dropped {found.name}")
    return done


def _changing(name: str) -> Verb[bool]:
    """Make an index remove what has expired, and answer whether the server can do that."""
    try:
        yield operations.set_ttl(name, TTL_INDEX.options["expireAfterSeconds"])
    except OperationFailure as error:
        if error.code not in refusals.UNCHANGEABLE:
            raise
        return False
    return True


def _building(known: Mapping[str, Any], patient: bool = True) -> Verb[str]:
    """Create our index beside what is there, and return its name."""
    names = chain([TTL_INDEX.name], (f"{TTL_INDEX.name}_{number}" for number in count(2)))
    index = TTL_INDEX._replace(name=next(name for name in names if name not in known))
    try:
        yield operations.create_index(index, patient)
    except OperationFailure as error:
        if error.code not in refusals.CONFLICTS:
            raise
        # One with the same keys is there. The other direction does the same, and may be beside it.
        yield operations.create_index(index._replace(keys=DESCENDING), patient)
    return index.name


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
    what = "Cannot tell whether there is a TTL index"
    try:
        known = yield operations.index_information()
        ours = judged(known)[0]
        if not ours.is_wrong:
            return
        what = "There is no TTL index"
        documents = yield operations.estimated_count()
        if ours.state != "missing":
            why = f"its index {ours.name} is in the way: {ours.state}, {ours.detail}"
        elif documents > most:
            why = f"it holds {documents:,} documents, too many to index during a request"
        else:
            yield from _building(known, patient=most == math.inf)
            return
    except PyMongoError as error:
        why = refusals.reason(error)
    logger.warning(
        "%s on the collection %r: %s. Expired sessions are never read, but without one MongoDB "
        "does not remove them. With 'django_mongo_sessions' in INSTALLED_APPS, run "
        "`manage.py mongosessions indexes --apply`; until then, `manage.py clearsessions` now and "
        "then.",
        what,
        conf.COLLECTION,
        why,
    )
