"""The indexes of the collection of sessions. No verb's correctness depends on them."""

from __future__ import annotations

import logging

from pymongo.errors import PyMongoError

from django_mongo_sessions import operations
from django_mongo_sessions.conf import conf
from django_mongo_sessions.documents import TTL_INDEX
from django_mongo_sessions.operations import Verb

logger = logging.getLogger("django_mongo_sessions")

# Building on more would outlast a request, and a new TTL index starts a mass delete.
_MOST_DOCUMENTS = 10_000

_ensured: set[tuple[str, str | None, str]] = set()


def ensure_once() -> Verb[None]:
    """Create the TTL index, once per process and collection, where the collection is small.

    Never fails: what is in the way is said in one warning.
    """
    place = conf.URI, conf.DATABASE, conf.COLLECTION
    if place in _ensured:
        return
    _ensured.add(place)
    try:
        known = yield operations.index_information()
        if any(TTL_INDEX.is_served_by(index) for index in known.values()):
            return
        count = yield operations.estimated_count()
        if count <= _MOST_DOCUMENTS:
            yield operations.create_index(TTL_INDEX)
            return
        reason = f"it holds {count:,} documents, too many to index during a request"
    except PyMongoError as error:
        reason = str(error)
    except GeneratorExit:  # the request was cancelled; the next one may have more luck
        _ensured.discard(place)
        raise
    logger.warning(
        "The TTL index was not created on the collection %r: %s. Expired sessions are never read, "
        "but MongoDB does not remove them. Create the index by hand, as a user with the privilege "
        "createIndex, with "
        "db.getCollection(%r).createIndex({expires_at: 1}, {name: %r, expireAfterSeconds: 0}); "
        "until then run `manage.py clearsessions` now and then.",
        conf.COLLECTION,
        reason,
        conf.COLLECTION,
        TTL_INDEX.name,
    )
