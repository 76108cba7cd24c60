"""mutate() applies a function to what is stored."""

from dataclasses import replace
from functools import partial

import pytest
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import AutoReconnect

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.storage import documents
from tests.conftest import collection, count_sessions
from tests.engine.helpers import visit


def test_mutate_changes_the_session_and_returns_what_the_function_returned(do, two, held):
    store, _ = two(a=1)

    assert do(store, "mutate", visit) == 1
    assert do(store, "mutate", visit) == 2

    assert held(store) == {"a": 1, "visits": 2}
    assert store["visits"] == 2


def test_mutate_begins_with_what_other_requests_have_stored(do, two, held):
    first, second = two()

    results = [do(store, "mutate", visit) for store in (first, second, first, second)]

    assert results == [1, 2, 3, 4]
    assert held(first) == {"visits": 4}


def test_mutate_includes_unsaved_changes(do, two, held):
    store, other = two(a=1, b=1)
    other["b"] = 2
    do(other, "save")
    store["c"] = 3
    del store["a"]

    do(store, "mutate", visit)

    assert held(store) == {"b": 2, "c": 3, "visits": 1}
    assert dict(store.items()) == held(store)


def test_mutate_runs_the_function_again_if_another_request_was_faster(do, two, held):
    store, other = two()
    runs = []

    def slow(data):
        runs.append(dict(data))
        if len(runs) == 1:
            collection().update_one({}, {"$set": {"write_id": documents.new_write_id()}})
        return visit(data)

    assert do(store, "mutate", slow) == 1

    assert runs == [{}, {}]
    assert other.session_key
    assert held(store) == {"visits": 1}


def test_mutate_of_a_session_not_yet_saved_saves_it(do, held):
    store = SessionStore()
    store["a"] = 1

    assert do(store, "mutate", visit) == 1

    assert store.modified  # or no cookie would be sent
    assert held(store) == {"a": 1, "visits": 1}
    assert dict(store.items()) == {"a": 1, "visits": 1}


def test_mutate_of_a_stored_session_moves_the_expiry_of_the_cookie_too(do, stored):
    store = SessionStore(stored(a=1).session_key)

    do(store, "mutate", visit)

    assert store.modified


def test_mutate_whose_insert_fails_has_changed_nothing(do, held, monkeypatch):
    store = SessionStore()
    insert = operations.insert

    def fail(reply):
        raise AutoReconnect("away")

    with monkeypatch.context() as patch:
        patch.setattr(operations, "insert", lambda *args: replace(insert(*args), read=fail))
        with pytest.raises(AutoReconnect):
            do(store, "mutate", visit)
    assert dict(store.items()) == {}

    assert do(store, "mutate", visit) == 1

    assert held(store) == {"visits": 1}


@pytest.mark.parametrize("saved", [True, False])
def test_an_error_of_the_function_writes_nothing(do, two, saved, held):
    store = two(a=1)[0] if saved else SessionStore()

    def fail(data):
        data["b"] = 2
        raise LookupError("no")

    with pytest.raises(LookupError):
        do(store, "mutate", fail)

    assert "b" not in do(store, "_get_session")
    assert collection().count_documents({"revision": 0}) == saved
    assert count_sessions() == saved


def test_mutate_after_clear_keeps_nothing_from_before(do, two, held):
    store, other = two(a=1)
    other["b"] = 2
    do(other, "save")
    store.clear()

    do(store, "mutate", visit)

    assert held(store) == {"visits": 1}


def test_mutate_of_a_session_that_is_gone_raises(do, two):
    store, other = two(a=1)
    do(other, "flush")

    with pytest.raises(UpdateError):
        do(store, "mutate", visit)

    assert count_sessions() == 0


def test_mutate_that_changes_nothing_sends_no_payload(do, two):
    store, _ = two(a=1)

    assert do(store, "mutate", len) == 1

    assert collection().find_one({})["revision"] == 0


def test_mutate_of_a_session_that_does_not_open_stores_under_a_new_key(do, two, held):
    store, _ = two(a=1)
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})

    assert do(store, "mutate", visit) == 1

    assert held(store) == {"a": 1, "visits": 1}
    assert dict(store.items()) == held(store)
    assert collection().count_documents({"payload": b"\x01forged"}) == 1


def test_mutate_gives_the_function_the_data_as_stored(do, two):
    store, _ = two()
    store["point"] = (1, 2)

    assert do(store, "mutate", lambda data: data["point"]) == [1, 2]


def test_mutate_refuses_a_coroutine_function(do, two, held):
    async def wait(data):
        data["waited"] = True

    store, _ = two(a=1)

    for function in (wait, partial(wait), lambda data: wait(data)):
        with pytest.raises(TypeError, match="is asynchronous. Await what it needs first"):
            do(store, "mutate", function)

    assert held(store) == {"a": 1}


def test_mutate_merges_with_a_session_that_did_not_open_and_does_now(do, two, held, settings):
    store = SessionStore(two(a=1)[0].session_key)
    payload = collection().find_one()["payload"]
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})
    do(store, "_get_session")["b"] = 2
    collection().update_one({}, {"$set": {"payload": payload}})

    do(store, "mutate", visit)

    assert held(store) == {"a": 1, "b": 2, "visits": 1}
