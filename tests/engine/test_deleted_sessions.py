"""A session that was deleted stays deleted, whoever saves it."""

import pytest
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import collection, count_sessions
from tests.engine.helpers import UNKNOWN


def test_a_session_deleted_meanwhile_is_not_raised_from_the_dead(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")["a"] = 2
    do(SessionStore(store.session_key), "delete")

    with pytest.raises(UpdateError):
        do(store, "save")

    assert count_sessions() == 0


def test_neither_is_one_that_was_looked_for_on_the_side(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    do(store, "_get_session")["a"] = 2
    do(SessionStore(store.session_key), "flush")
    assert do(store, "load") == {}

    with pytest.raises(UpdateError):
        do(store, "save")

    assert count_sessions() == 0


def test_neither_is_one_whose_key_is_changed(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    do(store, "_get_session")
    do(SessionStore(store.session_key), "flush")

    with pytest.raises(UpdateError):
        do(store, "cycle_key")
    with pytest.raises(UpdateError):
        do(store, "save")

    assert count_sessions() == 0


def test_neither_is_one_that_nothing_has_changed_in(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    do(SessionStore(store.session_key), "delete")

    with pytest.raises(UpdateError):
        do(store, "save")


def test_neither_is_one_that_this_store_has_deleted_itself(do, stored):
    store = stored(a=1)
    do(store, "delete")

    with pytest.raises(UpdateError):
        do(store, "save")


def test_neither_is_one_that_was_never_there(do):
    store = SessionStore(UNKNOWN)

    with pytest.raises(UpdateError):
        do(store, "save")

    store = SessionStore(UNKNOWN)
    store.clear()
    with pytest.raises(UpdateError):
        do(store, "save")


def test_a_session_deleted_during_a_conflict_stays_deleted(do, two, monkeypatch):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    later["c"] = 3
    merged = SessionStore._merged

    def deleting(self, base, newest, ours):
        if newest is not base:
            collection().delete_many({})
        return merged(self, base, newest, ours)

    monkeypatch.setattr(SessionStore, "_merged", deleting)
    with pytest.raises(UpdateError, match="was deleted"):
        do(later, "save")

    assert count_sessions() == 0
