"""A session that was deleted stays deleted, whoever saves it."""

import pytest
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import collection, count_sessions
from tests.engine.helpers import UNKNOWN


def test_a_session_deleted_in_the_meantime_does_not_come_back(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")["a"] = 2
    do(SessionStore(store.session_key), "delete")

    with pytest.raises(UpdateError):
        do(store, "save")

    assert count_sessions() == 0


def test_nor_does_one_that_was_loaded_separately(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    do(store, "_get_session")["a"] = 2
    do(SessionStore(store.session_key), "flush")
    assert do(store, "load") == {}

    with pytest.raises(UpdateError):
        do(store, "save")

    assert count_sessions() == 0


def test_nor_does_one_whose_key_changes(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    do(store, "_get_session")
    do(SessionStore(store.session_key), "flush")

    with pytest.raises(UpdateError):
        do(store, "cycle_key")
    with pytest.raises(UpdateError):
        do(store, "save")

    assert count_sessions() == 0


def test_nor_does_one_in_which_nothing_has_changed(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    do(SessionStore(store.session_key), "delete")

    with pytest.raises(UpdateError):
        do(store, "save")


def test_nor_does_one_that_this_store_has_deleted_itself(do, stored):
    store = stored(a=1)
    do(store, "delete")

    with pytest.raises(UpdateError):
        do(store, "save")


def test_a_session_that_never_existed_cannot_be_saved(do):
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
