"""clear() removes what is stored, whenever it is called."""

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import moving, saving
from tests.conftest import count_sessions
from tests.engine.helpers import answer, hand, loaded, the_document, visit


def test_saving_after_clear_stores_nothing_else(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    store.clear()
    store["b"] = 2

    do(store, "save")

    assert loaded(do, store) == {"b": 2}


def test_saving_after_clear_before_any_load_stores_nothing_else(do, stored):
    store = SessionStore(stored(a=1).session_key)
    store.clear()
    store["b"] = 2

    do(store, "save")

    assert loaded(do, store) == {"b": 2}
    assert the_document()["revision"] == 1


def test_a_cleared_session_removes_what_another_request_has_stored(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    later.clear()
    later["c"] = 3

    do(later, "save")

    assert held(later) == {"c": 3}


def test_so_does_one_that_was_cleared_before_it_was_loaded(do, stored, held):
    key = stored(a=1).session_key
    store, other = SessionStore(key), SessionStore(key)
    store.clear()
    store["c"] = 3
    do(other, "_get_session")["b"] = 2
    do(other, "save")

    do(store, "save")

    assert held(store) == {"c": 3}


def test_saves_after_a_cleared_session_was_stored_are_merged_again(do, two, held):
    store, other = two(a=1)
    store.clear()
    do(store, "save")
    do(other, "_get_session")["b"] = 2
    do(other, "save")
    store["c"] = 3

    do(store, "save")

    assert held(store) == {"b": 2, "c": 3}


def test_a_clear_is_stored_even_if_the_store_has_just_written_the_same(do, two, held):
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


def test_a_move_after_a_clear_brings_nothing_along(do, two, held):
    store, other = two(a=1)
    other["b"] = 2
    do(other, "save")
    store.clear()
    store["c"] = 3

    do(store, "cycle_key")

    assert held(store) == {"c": 3}
    assert count_sessions() == 1


def test_nor_does_it_if_the_session_was_never_loaded(do, stored, held):
    key = stored(a=1).session_key
    store = SessionStore(key)
    store.clear()
    store["c"] = 3

    do(store, "cycle_key")

    assert store.session_key != key
    assert held(store) == {"c": 3}
    assert count_sessions() == 1


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


def test_a_clear_while_the_session_moves_is_stored(do, two, held):
    store, _ = two(a=1)
    steps = moving.cycle_key(store)
    late = answer(steps.send(answer(next(steps))))
    store.clear()
    store["b"] = 2

    hand(steps, late)

    do(store, "save")
    assert held(store) == {"b": 2}
    assert count_sessions() == 1
