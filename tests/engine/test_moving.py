"""A session gets another key, and loses nothing."""

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import mapping, moving
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.storage import documents
from tests.conftest import collection, count_sessions
from tests.engine.helpers import answer, finish, loaded, outcome, the_document


def test_cycle_key_moves_the_data_and_ends_the_old_key(do, stored):
    store = SessionStore(stored(a=1).session_key)
    old_key = store.session_key

    do(store, "cycle_key")

    assert store.session_key != old_key
    assert loaded(do, store) == {"a": 1}
    assert not do(store, "exists", old_key)
    assert the_document()["revision"] == 0
    assert store.modified


def test_cycle_key_of_a_session_without_a_key_gives_it_one(do):
    store = SessionStore()
    store["a"] = 1

    do(store, "cycle_key")

    assert loaded(do, store) == {"a": 1}


def test_two_clicks_on_sign_in_may_both_change_the_key_of_an_anonymous_session(do, stored):
    key = stored(cart=[1]).session_key
    first, second = SessionStore(key), SessionStore(key)
    do(first, "_get_session")
    do(second, "_get_session")

    do(first, "cycle_key")
    do(second, "cycle_key")

    assert loaded(do, first) == loaded(do, second) == {"cart": [1]}


def test_a_login_does_not_lose_what_a_parallel_request_has_stored(do, two, held):
    login, request = two(cart=[1])
    request["cart"] = [1, 2]
    do(request, "save")

    do(login, "cycle_key")
    login[SESSION_KEY] = "7"
    do(login, "save")

    assert held(login) == {"cart": [1, 2], SESSION_KEY: "7"}
    assert login["cart"] == [1, 2]
    assert count_sessions() == 1


def test_nor_what_is_stored_while_the_session_moves(do, two, held, monkeypatch):
    login, request = two(cart=[1])
    request["cart"] = [1, 2]
    do(request, "save")
    replace = operations.replace_with
    late = [3, 4]

    def meanwhile(document_id, *args):
        if late:
            newer = collection().find_one({"_id": document_id})
            store = SessionStore(request.session_key)
            snapshot = outcome(mapping.opened(store, request.session_key, document_id, newer))
            data = {**snapshot.data, f"late{late.pop()}": 1}
            update, _ = outcome(mapping.update(store, snapshot, store._content(data)))
            collection().update_one({"_id": document_id}, update)
        return replace(document_id, *args)

    monkeypatch.setattr(operations, "replace_with", meanwhile)
    do(login, "cycle_key")

    assert held(login) == {"cart": [1, 2], "late3": 1, "late4": 1}
    assert dict(login.items()) == held(login)


def test_a_new_session_deleted_while_the_old_one_moves_stays_deleted(do, two, monkeypatch):
    login, request = two(cart=[1])
    request["cart"] = [1, 2]
    do(request, "save")
    merged = SessionStore._merged

    def deleting(self, *args):
        collection().delete_one({"_id": {"$ne": documents.document_id(self.session_key)}})
        return merged(self, *args)

    monkeypatch.setattr(SessionStore, "_merged", deleting)
    with pytest.raises(UpdateError, match="was deleted"):
        do(login, "cycle_key")

    assert login.session_key == request.session_key


@pytest.mark.parametrize("data", [{SESSION_KEY: "7"}, {"a": 1}])
def test_a_session_that_was_never_read_and_is_gone_moves_if_it_is_anonymous(do, stored, data):
    store = SessionStore(stored(a=1).session_key)
    store.clear()
    store.update(data)
    collection().delete_many({})

    if SESSION_KEY in data:
        with pytest.raises(UpdateError):
            do(store, "cycle_key")
    else:
        do(store, "cycle_key")

    assert count_sessions() == (SESSION_KEY not in data)


def test_a_session_signed_out_while_it_moves_does_not_come_back(do, two):
    store, other = two(**{SESSION_KEY: "7"})
    do(other, "flush")

    with pytest.raises(UpdateError):
        do(store, "cycle_key")

    assert count_sessions() == 0


def test_nor_does_one_that_another_request_has_signed_in_and_out(do, two):
    store, other = two(a=1)
    steps = moving.cycle_key(store)
    operation = steps.send(answer(next(steps)))
    other[SESSION_KEY] = "7"
    do(other, "save")
    for _ in range(3):  # it misses the old one, waits and reads it
        operation = steps.send(answer(operation))
    do(other, "flush")

    with pytest.raises(UpdateError):
        finish(steps, operation)

    assert count_sessions() == 0
