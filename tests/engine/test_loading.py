"""Which sessions are read, and which are not found."""

from datetime import timedelta

import pytest
from django.contrib.sessions.backends.base import CreateError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import loading
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection, count_sessions
from tests.engine.helpers import UNKNOWN, loaded

MALFORMED = [
    "x" * 1_000_000,
    "12345678\0" + UNKNOWN,
    "\U0001f36a" * 32,
    "\ud800" * 32,
    '{"$ne": null}' + UNKNOWN,
    UNKNOWN[:-1],
    UNKNOWN + "," + UNKNOWN,
]


def expire(store):
    past = dates.utc_now() - timedelta(seconds=1)
    collection().update_one(
        {"_id": documents.document_id(store.session_key)}, {"$set": {"expires_at": past}}
    )


def test_a_saved_session_is_loaded_by_another_store(do, stored):
    store = stored(book="Sherlock Holmes", pages=[1, 2])

    assert loaded(do, store) == {"book": "Sherlock Holmes", "pages": [1, 2]}
    assert do(SessionStore(store.session_key), "load") == loaded(do, store)


def test_an_unknown_key_is_dropped_and_makes_no_document(do):
    store = SessionStore(UNKNOWN)

    assert do(store, "_get_session") == {}
    assert store.session_key is None
    assert count_sessions() == 0


@pytest.mark.parametrize("key", MALFORMED, ids=lambda key: ascii(key)[:20])
def test_a_malformed_key_is_an_unknown_session(do, key):
    store = SessionStore(key)

    assert not do(store, "exists", key)
    do(store, "delete", key)
    assert do(store, "_get_session") == {}
    assert store.session_key is None
    store = SessionStore(key)
    with pytest.raises(CreateError):
        do(store, "save", must_create=True)
    assert count_sessions() == 0


def test_no_session_exists_without_a_key(do):
    assert do(SessionStore(), "exists", None) is False
    do(SessionStore(), "delete")


def test_an_expired_session_is_not_found_even_if_it_was_not_removed(do, stored):
    store = stored(a=1)
    assert do(store, "exists", store.session_key)

    expire(store)

    assert loaded(do, store) == {}
    assert not do(store, "exists", store.session_key)


def test_a_session_that_another_task_loaded_in_the_meantime_is_kept(do, stored):
    store = SessionStore(stored(a=1).session_key)
    slower = loading.data(store)
    operation = next(slower)

    do(store, "_get_session")["b"] = 2
    with pytest.raises(StopIteration):
        slower.send(operation.read(operation.call(collection())))

    assert store._session_cache == {"a": 1, "b": 2}


def test_a_load_in_flight_does_not_drop_the_key_that_another_task_has_moved_to(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    slower = loading.data(store)
    operation = next(slower)

    do(store, "cycle_key")
    with pytest.raises(StopIteration):
        slower.send(operation.read(operation.call(collection())))

    assert loaded(do, store) == {"_auth_user_id": "1"}
