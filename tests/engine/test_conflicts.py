"""Two requests of one browser overlap: no update is lost. In both colours."""

import pickle
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import AutoReconnect

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import mapping, moving, saving
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.mongo import operations, runner, writes
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection


class PickleSerializer:
    """One that keeps tuples, keys that are numbers, and objects."""

    def dumps(self, data):
        return pickle.dumps(data)

    def loads(self, body):
        return pickle.loads(body)


@pytest.fixture
def two(do, stored):
    """Make two stores that have both loaded one session with this data."""

    def two(**data):
        key = stored(**data).session_key
        stores = SessionStore(key), SessionStore(key)
        for store in stores:
            do(store, "_get_session")
        return stores

    return two


@pytest.fixture
def held(do):
    """Return what MongoDB holds of a session."""
    return lambda store: do(SessionStore(store.session_key), "load")


def raise_conflicts(settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ON_CONFLICT": "raise"}


# Keys


def test_different_keys_are_both_kept(do, two, held):
    earlier, later = two(book="Sherlock Holmes")
    earlier["a"] = 1
    later["b"] = 2

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"book": "Sherlock Holmes", "a": 1, "b": 2}


def test_after_a_save_the_session_shows_what_was_merged(do, two):
    earlier, later = two(gone=1, stays=[1])
    stays = later["stays"]
    earlier["a"] = 1
    del earlier["gone"]
    do(earlier, "save")
    later["b"] = 2

    do(later, "save")

    assert dict(later.items()) == {"stays": [1], "a": 1, "b": 2}
    assert later["stays"] is stays


def test_a_key_that_the_later_save_deletes_is_gone(do, two, held):
    earlier, later = two(a=1, b=1)
    earlier["a"] = 2
    del later["a"]

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"b": 1}


def test_a_key_that_the_earlier_save_deleted_stays_deleted(do, two, held):
    earlier, later = two(a=1, b=1)
    del earlier["a"]
    later["b"] = 2

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"b": 2}


def test_unless_the_later_one_has_changed_it(do, two, held):
    earlier, later = two(a=1, b=1)
    del earlier["a"]
    later["a"] = 2

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"a": 2, "b": 1}


def test_of_one_key_the_later_save_counts(do, two, held):
    earlier, later = two(a=1)
    earlier["a"] = 2
    later["a"] = 3

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"a": 3}


def test_a_change_inside_of_a_value_counts(do, two, held):
    earlier, later = two(cart=[1], seen=[1])
    earlier["seen"].append(2)
    later["cart"].append(2)

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"cart": [1, 2], "seen": [1, 2]}


def test_it_counts_also_in_what_was_put_there_by_this_request(do, two, held):
    earlier, later = two(seen=[1])
    cart = [1]
    later["cart"] = cart
    do(later, "save")
    cart.append(2)
    earlier["seen"] = []
    do(earlier, "save")

    do(later, "save")

    assert held(later) == {"cart": [1, 2], "seen": []}


def test_three_in_a_row_lose_nothing(do, stored, held):
    key = stored().session_key
    stores = [SessionStore(key) for _ in range(3)]
    for number, store in enumerate(stores):
        do(store, "_get_session")[f"n{number}"] = number

    for store in [*stores, *stores]:
        do(store, "save")

    assert held(stores[0]) == {"n0": 0, "n1": 1, "n2": 2}


# What else a store does in between


def test_a_load_on_the_side_does_not_hide_what_others_have_stored(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    later["c"] = 3

    do(later, "load")
    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "c": 3}


def test_a_second_save_begins_where_the_first_ended(do, two, held):
    first, second = two(a=1)
    first["b"] = 2
    do(first, "save")
    second["c"] = 3
    do(second, "save")
    del first["b"]
    first["a"] = 0

    do(first, "save")

    assert held(first) == {"a": 0, "c": 3}
    del second["c"]
    do(second, "save")
    assert held(first) == {"a": 0}


def test_a_save_after_one_that_failed_loses_nothing(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    later["c"] = object()
    with pytest.raises(TypeError):
        do(later, "save")
    later["c"] = 3

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "c": 3}


@pytest.fixture
def save_unheard(do, monkeypatch):
    """Save, but lose the server's answer."""

    def lost(reply):
        raise AutoReconnect("the server did it, and its answer never came")

    def save(store):
        update = operations.update
        with monkeypatch.context() as patch:
            patch.setattr(operations, "update", lambda *args: replace(update(*args), read=lost))
            with pytest.raises(AutoReconnect):
                do(store, "save")

    return save


@pytest.mark.parametrize("last", [2, 3])
def test_a_write_whose_answer_was_lost_is_not_taken_for_anothers(
    do, two, held, settings, save_unheard, last
):
    raise_conflicts(settings)
    store, _ = two(a=1)
    store["a"] = 2
    save_unheard(store)
    store.update({"a": last, "b": 3})

    do(store, "save")

    assert held(store) == {"a": last, "b": 3}


def test_what_it_has_added_can_be_deleted(do, two, held, save_unheard):
    store, _ = two(a=1)
    store["b"] = 2
    save_unheard(store)
    del store["b"]

    do(store, "save")

    assert dict(store.items()) == held(store) == {"a": 1}


def test_what_others_stored_after_it_is_merged(do, two, held, save_unheard):
    store, other = two(a=1)
    store["b"] = 2
    save_unheard(store)
    do(other, "mutate", visit)
    store["c"] = 3

    do(store, "save")

    assert held(store) == {"a": 1, "b": 2, "c": 3, "visits": 1}


def test_a_change_made_while_the_save_is_under_way_is_not_undone(do, two, held, monkeypatch):
    earlier, later = two(a=1, b=1)
    earlier["a"] = 2
    do(earlier, "save")
    later["b"] = 2
    merged = SessionStore._merged

    def meanwhile(self, *args):
        later["c"] = 3  # by another task of the same request
        return merged(self, *args)

    monkeypatch.setattr(SessionStore, "_merged", meanwhile)
    do(later, "save")

    assert dict(later.items()) == {"a": 2, "b": 2, "c": 3}
    do(later, "save")
    assert held(later) == {"a": 2, "b": 2, "c": 3}


# Clearing, moving, deleting


def test_clear_means_what_it_says(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    later.clear()
    later["c"] = 3

    do(later, "save")

    assert held(later) == {"c": 3}


def test_clear_before_any_load_does_too(do, stored, held):
    key = stored(a=1).session_key
    store, other = SessionStore(key), SessionStore(key)
    store.clear()
    store["c"] = 3
    do(other, "_get_session")["b"] = 2
    do(other, "save")

    do(store, "save")

    assert held(store) == {"c": 3}


def test_what_is_stored_after_a_clear_is_merged_again(do, two, held):
    store, other = two(a=1)
    store.clear()
    do(store, "save")
    do(other, "_get_session")["b"] = 2
    do(other, "save")
    store["c"] = 3

    do(store, "save")

    assert held(store) == {"b": 2, "c": 3}


def test_a_login_does_not_lose_what_a_parallel_request_has_stored(do, two, held):
    login, request = two(cart=[1])
    request["cart"] = [1, 2]
    do(request, "save")

    do(login, "cycle_key")
    login[SESSION_KEY] = "7"
    do(login, "save")

    assert held(login) == {"cart": [1, 2], SESSION_KEY: "7"}
    assert login["cart"] == [1, 2]
    assert collection().count_documents({}) == 1


def test_not_even_one_that_comes_while_it_moves(do, two, held, monkeypatch):
    login, request = two(cart=[1])
    request["cart"] = [1, 2]
    do(request, "save")
    delete = operations.delete
    late = [3, 4]

    def meanwhile(document_id, revision=None):
        if late and revision:
            newer = collection().find_one({"_id": document_id})
            store = SessionStore(request.session_key)
            snapshot = mapping.opened(store, request.session_key, document_id, newer)
            data = {**snapshot.data, f"late{late.pop()}": 1}
            update, _ = mapping.update(store, snapshot, store._content(data))
            collection().update_one({"_id": document_id}, update)
        return delete(document_id, revision)

    monkeypatch.setattr(operations, "delete", meanwhile)
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


def test_after_a_clear_a_move_takes_nothing_along(do, two, held):
    store, other = two(a=1)
    other["b"] = 2
    do(other, "save")
    store.clear()
    store["c"] = 3

    do(store, "cycle_key")

    assert held(store) == {"c": 3}
    assert collection().count_documents({}) == 1


def test_nor_does_it_where_nothing_was_known_of_the_session(do, stored, held):
    key = stored(a=1).session_key
    store = SessionStore(key)
    store.clear()
    store["c"] = 3

    do(store, "cycle_key")

    assert store.session_key != key
    assert held(store) == {"c": 3}
    assert collection().count_documents({}) == 1


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

    assert collection().count_documents({}) == (SESSION_KEY not in data)


def test_a_session_signed_out_while_it_moves_is_not_raised_from_the_dead(do, two):
    store, other = two(**{SESSION_KEY: "7"})
    do(other, "flush")

    with pytest.raises(UpdateError):
        do(store, "cycle_key")

    assert collection().count_documents({}) == 0


def test_nor_is_one_that_another_request_has_signed_in_and_out(do, two):
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

    assert collection().count_documents({}) == 0


def test_flush_deletes_whatever_others_have_stored(do, two):
    store, other = two(a=1)
    other["b"] = 2
    do(other, "save")

    do(store, "flush")

    assert collection().count_documents({}) == 0
    other["c"] = 3
    with pytest.raises(UpdateError):
        do(other, "save")
    assert collection().count_documents({}) == 0


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

    assert collection().count_documents({}) == 0


# Expiry


def expires_in(store):
    [document] = collection().find({"_id": documents.document_id(store.session_key)})
    return document["expires_at"] - dates.utc_now()


def test_a_poll_does_not_undo_an_expiry_that_was_set_meanwhile(do, two, held):
    poll, other = two(a=1)
    other.set_expiry(60)
    do(other, "save")

    do(poll, "save")

    assert held(poll) == {"a": 1, "_session_expiry": 60}
    assert expires_in(poll) < timedelta(seconds=61)
    assert poll.get_expiry_age() == 60


@pytest.mark.parametrize("lost_a_race", [True, False])
def test_a_session_that_expired_meanwhile_lives_on_unless_a_race_was_lost(
    do, two, held, lost_a_race
):
    store, other = two(a=1)
    if lost_a_race:
        do(other, "mutate", visit)
    collection().update_many({}, {"$set": {"expires_at": dates.utc_now() - timedelta(1)}})
    store["b"] = 2

    if lost_a_race:
        with pytest.raises(UpdateError):
            do(store, "save")
    else:
        do(store, "save")
        assert held(store) == {"a": 1, "b": 2}


def test_expiry_is_merged_like_any_key_and_the_document_follows(do, two, held):
    earlier, later = two(a=1)
    earlier.set_expiry(60)
    do(earlier, "save")
    later["b"] = 2

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "_session_expiry": 60}
    assert expires_in(later) < timedelta(seconds=61)


# Other serializers


def test_a_serializer_that_keeps_types_loses_nothing(do, two, held, settings):
    settings.SESSION_SERIALIZER = "tests.engine.test_conflicts.PickleSerializer"
    earlier, later = two(point=(1, 2), moment=dates.utc_now())
    earlier["number"] = {1: timedelta(1)}
    later["point"] = [1, 2]
    do(earlier, "_get_session")[7] = "seven"

    do(earlier, "save")
    do(later, "save")

    data = held(later)
    assert (data["point"], data["number"], data[7]) == ([1, 2], {1: timedelta(1)}, "seven")
    assert later["moment"] == data["moment"]


def test_keys_and_values_that_json_changes_are_compared_as_they_are_stored(do, two, held):
    earlier, later = two(a=1)
    later["point"] = (1, 2)
    do(later, "_get_session")[1] = "one"
    do(later, "save")
    earlier["b"] = 2
    do(earlier, "save")
    later["c"] = 3

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "c": 3, "point": [1, 2], "1": "one"}
    assert later["point"] == (1, 2)
    assert do(later, "_get_session")[1] == "one"


def test_clear_means_it_where_the_store_has_just_written_the_same(do, two, held):
    later, _ = two(a=1)
    later["b"] = 2
    do(later, "save")
    other = SessionStore(later.session_key)
    do(other, "_get_session")["theirs"] = 1
    do(other, "save")
    later.clear()
    later.update({"a": 1, "b": 2})

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2}


# What the view does while a verb waits for the server


def answer(operation):
    """Do what a verb asks for; its answer arrives when it is sent."""
    if isinstance(operation, runner.Wait):
        return None
    return operation.read(operation.call(collection()))


def finish(verb, operation):
    """Do the rest of a verb that waits for an operation's answer."""
    return hand(verb, answer(operation))


def hand(verb, reply):
    """Do the rest of a verb whose answer arrives now."""
    while True:
        try:
            reply = answer(verb.send(reply))
        except StopIteration as stop:
            return stop.value


def test_a_touch_after_a_clear_does_not_undo_it(do, two, held):
    store, other = two(a=1)
    store.clear()

    assert not do(store, "_touch")

    do(other, "mutate", visit)
    do(store, "save")
    assert held(store) == {}


def test_a_save_under_way_does_not_undo_a_clear(do, two, held):
    store, other = two(a=1)
    store["b"] = 2
    slower = saving.save(store)
    late = answer(next(slower))
    store.clear()
    store["c"] = 3

    hand(slower, late)

    do(other, "save")
    do(store, "save")
    assert held(store) == {"c": 3}


def test_a_clear_while_the_session_moves_means_what_it_says(do, two, held):
    store, _ = two(a=1)
    steps = moving.cycle_key(store)
    late = answer(steps.send(answer(next(steps))))
    store.clear()
    store["b"] = 2

    hand(steps, late)

    do(store, "save")
    assert held(store) == {"b": 2}
    assert collection().count_documents({}) == 1


# What does not open


def test_where_the_newest_document_does_not_open_the_data_gets_a_new_key(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})
    later["c"] = 3
    old = later.session_key

    do(later, "save")

    assert later.session_key != old
    assert held(later) == {"a": 1, "c": 3}
    assert collection().count_documents({"payload": b"\x01forged"}) == 1


def test_a_move_leaves_a_document_that_does_not_open_any_more(do, two, held):
    login, other = two(a=1)
    other["b"] = 2
    do(other, "save")
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})

    do(login, "cycle_key")

    assert held(login) == {"a": 1}
    assert collection().count_documents({"payload": b"\x01forged"}) == 1


# ON_CONFLICT


def test_a_conflict_may_be_raised_and_names_the_keys_and_no_values(do, two, held, settings):
    raise_conflicts(settings)
    earlier, later = two(a=1, b=1)
    earlier.update({"a": "theirs", "b": 2})
    later.update({"a": "ours", "c": 3})
    do(earlier, "save")

    with pytest.raises(SessionConflict, match="'a'") as conflict:
        do(later, "save")

    assert conflict.value.keys == ("a",)
    assert "ours" not in str(conflict.value)
    assert "theirs" not in str(conflict.value)
    assert held(later) == {"a": "theirs", "b": 2}


def test_what_is_no_conflict_is_merged_all_the_same(do, two, held, settings):
    raise_conflicts(settings)
    earlier, later = two(a=1)
    earlier.update({"a": 2, "b": 2})
    later.update({"a": 2, "c": 3})
    do(earlier, "save")

    do(later, "save")

    assert held(later) == {"a": 2, "b": 2, "c": 3}


def test_a_conflict_during_a_login_leaves_the_session_under_its_key(do, two, held, settings):
    raise_conflicts(settings)
    request, login = two(a=1)
    request["a"] = 2
    do(request, "save")
    login["a"] = 3

    with pytest.raises(SessionConflict):
        do(login, "cycle_key")

    assert login.session_key == request.session_key
    assert held(login) == {"a": 2}
    assert collection().count_documents({}) == 1


@pytest.mark.parametrize("verb", ["save", "cycle_key"])
def test_a_race_that_is_always_lost_ends_in_a_conflict(do, two, monkeypatch, verb):
    monkeypatch.setattr(writes, "_MAX_ATTEMPTS", 3)
    monkeypatch.setattr(writes, "_LONGEST_DELAY", 0)
    store, _ = two(a=1)
    store["b"] = 2
    update, delete = operations.update, operations.delete

    def overtaken(document_id, revision, *args):
        collection().update_one({"_id": document_id}, {"$inc": {"revision": 1}})
        return update(document_id, revision, *args)

    def dodged(document_id, revision=None):
        if revision is not None:
            collection().update_one({"_id": document_id}, {"$inc": {"revision": 1}})
        return delete(document_id, revision)

    if verb == "save":
        monkeypatch.setattr(operations, "update", overtaken)
    monkeypatch.setattr(operations, "delete", dodged)
    with pytest.raises(SessionConflict, match="3 attempts") as conflict:
        do(store, verb)

    assert conflict.value.keys == ()
    assert collection().count_documents({}) == 1


# mutate


def visit(data):
    data["visits"] = data.get("visits", 0) + 1
    return data["visits"]


def test_mutate_changes_the_session_and_returns_what_the_function_returned(do, two, held):
    store, _ = two(a=1)

    assert do(store, "mutate", visit) == 1
    assert do(store, "mutate", visit) == 2

    assert held(store) == {"a": 1, "visits": 2}
    assert store["visits"] == 2


def test_mutate_begins_with_what_others_have_stored(do, two, held):
    first, second = two()

    results = [do(store, "mutate", visit) for store in (first, second, first, second)]

    assert results == [1, 2, 3, 4]
    assert held(first) == {"visits": 4}


def test_mutate_takes_what_is_unsaved_along(do, two, held):
    store, other = two(a=1, b=1)
    other["b"] = 2
    do(other, "save")
    store["c"] = 3
    del store["a"]

    do(store, "mutate", visit)

    assert held(store) == {"b": 2, "c": 3, "visits": 1}
    assert dict(store.items()) == held(store)


def test_mutate_runs_the_function_again_where_another_was_faster(do, two, held):
    store, other = two()
    runs = []

    def slow(data):
        runs.append(dict(data))
        if len(runs) == 1:
            collection().update_one({}, {"$inc": {"revision": 1}})
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
    assert collection().count_documents({}) == saved


def test_mutate_after_clear_keeps_nothing_of_before(do, two, held):
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

    assert collection().count_documents({}) == 0


def test_mutate_that_changes_nothing_sends_no_payload(do, two):
    store, _ = two(a=1)

    assert do(store, "mutate", len) == 1

    assert collection().find_one({})["revision"] == 0


def test_mutate_of_what_does_not_open_stores_under_a_new_key(do, two, held):
    store, _ = two(a=1)
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})

    assert do(store, "mutate", visit) == 1

    assert held(store) == {"a": 1, "visits": 1}
    assert dict(store.items()) == held(store)
    assert collection().count_documents({"payload": b"\x01forged"}) == 1


def test_mutate_gives_the_function_what_is_stored(do, two):
    store, _ = two()
    store["point"] = (1, 2)

    assert do(store, "mutate", lambda data: data["point"]) == [1, 2]


def test_mutate_refuses_a_function_that_awaits(do, two, held):
    async def wait(data):
        data["waited"] = True

    store, _ = two(a=1)

    for function in (wait, partial(wait), lambda data: wait(data)):
        with pytest.raises(TypeError, match="is asynchronous. Await what it needs first"):
            do(store, "mutate", function)

    assert held(store) == {"a": 1}


def test_mutate_of_what_did_not_open_and_does_now_merges_with_it(do, two, held, settings):
    store = SessionStore(two(a=1)[0].session_key)
    payload = collection().find_one()["payload"]
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})
    do(store, "_get_session")["b"] = 2
    collection().update_one({}, {"$set": {"payload": payload}})

    do(store, "mutate", visit)

    assert held(store) == {"a": 1, "b": 2, "visits": 1}


# A save that changes nothing, after one that has merged


@pytest.fixture
def merged(do, two):
    """A store whose keys stand in another order than they are stored in."""
    earlier, later = two(z=1)
    earlier["a"] = 1
    do(earlier, "save")
    later["b"] = 2
    do(later, "save")
    assert list(later.keys()) == ["z", "b", "a"]
    return later


def test_within_a_second_it_sends_nothing(do, merged):
    [document] = collection().find({})

    do(merged, "save")

    assert list(collection().find({})) == [document]


def test_later_it_sends_no_payload(do, merged):
    [before] = collection().find({})
    merged._forget_last_write()

    do(merged, "save")

    [after] = collection().find({})
    assert (after["payload"], after["revision"]) == (before["payload"], before["revision"])


def test_nor_does_it_look_changed(do, tracking, two):
    store, other = two(y=1, z=1)
    other["y"] = other.pop("y")
    do(other, "save")

    do(store, "mutate", visit)

    assert store._nested_change() is None


def test_what_was_changed_during_the_merge_is_saved(do, two, held):
    store, other = two(a=1)
    do(other, "mutate", visit)
    steps = saving.save(store)
    operation = steps.send(answer(steps.send(answer(steps.send(answer(next(steps)))))))
    store["b"] = 1

    finish(steps, operation)

    do(store, "save")
    assert held(store) == {"a": 1, "visits": 1, "b": 1}


# Changes inside of values


@pytest.fixture
def tracking(settings):
    """Turn TRACK_NESTED on, once an engine has been set up."""
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "TRACK_NESTED": True}


def test_a_change_inside_of_a_value_is_noticed_if_it_is_looked_for(do, two, tracking, held):
    store, _ = two(cart=[1])
    assert not store.modified

    store["cart"].append(2)

    assert store.modified
    do(store, "save")
    assert held(store) == {"cart": [1, 2]}
    assert not store.modified


def test_it_is_not_where_nobody_asked_for_it(do, two):
    store, _ = two(cart=[1])

    store["cart"].append(2)

    assert not store.modified


def test_a_change_after_the_question_is_saved_too(do, two, tracking, held):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    assert store.modified
    store["b"] = 1

    do(store, "save")

    assert held(store) == {"cart": [1, 2], "b": 1}


def test_a_change_inside_of_a_value_after_the_question_is_saved_too(do, two, tracking, held):
    store, _ = two(cart=[1])
    store["cart"].append(2)
    assert store.modified
    store["cart"].append(3)

    do(store, "save")

    assert held(store) == {"cart": [1, 2, 3]}
    assert not store.modified


def test_what_was_stored_after_the_question_is_not_undone(do, two, tracking, held):
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


def test_a_change_that_is_passed_over_is_not_saved(do, two, tracking):
    store, _ = two(cart=[1])
    store["cart"].append(2)

    store.modified = False

    assert not store.modified
    store["cart"].append(3)
    assert store.modified


def test_a_change_that_was_passed_over_and_then_stored_may_be_taken_back(do, two, tracking, held):
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


def test_a_session_whose_dict_was_taken_away_has_not_changed(do, two, tracking):
    store, _ = two(cart=[1])

    del store._session_cache

    assert not store.modified


def test_a_session_that_was_not_read_is_not_asked_after(do, two, tracking, commands):
    store = SessionStore(two(a=1)[0].session_key)
    commands.sent.clear()

    assert not store.modified

    assert commands.sent == []


def test_nor_is_one_that_does_not_open(do, two, tracking):
    key = two(a=1)[0].session_key
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})
    store = SessionStore(key)
    do(store, "_get_session")

    assert not store.modified
