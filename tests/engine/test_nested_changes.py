"""Changes inside values, with TRACK_NESTED and without."""

from dataclasses import replace

import pytest
from pymongo.errors import AutoReconnect

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import operations
from tests.conftest import collection
from tests.engine.helpers import visit


def test_a_change_inside_a_value_is_noticed_with_TRACK_NESTED(do, two, tracking, held):
    store, _ = two(cart=[1])
    assert not store.modified

    store["cart"].append(2)

    assert store.modified
    do(store, "save")
    assert held(store) == {"cart": [1, 2]}
    assert not store.modified


def test_it_is_not_noticed_by_default(do, two):
    store, _ = two(cart=[1])

    store["cart"].append(2)

    assert not store.modified


def test_a_change_after_modified_was_read_is_saved_too(do, two, tracking, held):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    assert store.modified
    store["b"] = 1

    do(store, "save")

    assert held(store) == {"cart": [1, 2], "b": 1}


def test_a_change_inside_a_value_after_modified_was_read_is_saved_too(do, two, tracking, held):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    assert store.modified
    store["cart"].append(3)

    do(store, "save")

    assert held(store) == {"cart": [1, 2, 3]}
    assert not store.modified


def test_what_was_stored_after_modified_was_read_is_not_undone(do, two, tracking, held):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    assert store.modified
    do(store, "mutate", visit)

    do(store, "save")

    assert held(store) == {"cart": [1, 2], "visits": 1}


def test_a_save_that_failed_does_not_keep_the_body(do, two, tracking, held, monkeypatch):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    assert store.modified
    update = operations.update

    def fail(reply):
        raise AutoReconnect("away")

    with monkeypatch.context() as patch:
        patch.setattr(operations, "update", lambda *args: replace(update(*args), read=fail))
        with pytest.raises(AutoReconnect):
            do(store, "save")
    store["cart"].append(3)

    do(store, "save")

    assert held(store) == {"cart": [1, 2, 3]}


def test_an_ignored_change_is_not_saved(do, two, tracking):
    store, _ = two(cart=[1])
    store["cart"].append(2)

    store.modified = False

    assert not store.modified
    store["cart"].append(3)
    assert store.modified


def test_an_ignored_change_that_was_then_stored_can_be_undone(do, two, tracking, held):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    store.modified = False
    do(store, "mutate", visit)
    store.modified = False
    store["cart"].append(3)
    do(store, "save")

    store["cart"].pop()

    assert store.modified
    do(store, "save")
    assert held(store) == {"cart": [1, 2], "visits": 1}


def test_a_session_whose_dict_was_removed_has_not_changed(do, two, tracking):
    store, _ = two(cart=[1])

    del store._session_cache

    assert not store.modified


def test_asking_whether_a_session_is_modified_does_not_read_it(do, two, tracking, commands):
    store = SessionStore(two(a=1)[0].session_key)
    commands.sent.clear()

    assert not store.modified

    assert commands.sent == []


def test_a_session_that_does_not_open_is_not_modified(do, two, tracking):
    key = two(a=1)[0].session_key
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})
    store = SessionStore(key)
    do(store, "_get_session")

    assert not store.modified
