"""A save after one whose reply was lost."""

from dataclasses import replace

import pytest
from pymongo.errors import AutoReconnect

from django_mongo_sessions.mongo import operations
from tests.engine.helpers import raise_conflicts, visit


@pytest.fixture
def save_unheard(do, monkeypatch):
    """Save, but lose the server's reply."""

    def lost(reply):
        raise AutoReconnect("applied, but the reply was lost")

    def save(store):
        update = operations.update
        with monkeypatch.context() as patch:
            patch.setattr(operations, "update", lambda *args: replace(update(*args), read=lost))
            with pytest.raises(AutoReconnect):
                do(store, "save")

    return save


@pytest.mark.parametrize("last", [2, 3])
def test_a_write_whose_reply_was_lost_is_not_taken_for_another_requests(
    do, two, held, settings, save_unheard, last
):
    raise_conflicts(settings)
    store, _ = two(a=1)
    store["a"] = 2
    save_unheard(store)
    store.update({"a": last, "b": 3})

    do(store, "save")

    assert held(store) == {"a": last, "b": 3}


def test_what_such_a_write_has_added_can_be_deleted(do, two, held, save_unheard):
    store, _ = two(a=1)
    store["b"] = 2
    save_unheard(store)
    del store["b"]

    do(store, "save")

    assert dict(store.items()) == held(store) == {"a": 1}


def test_what_other_requests_stored_after_it_is_merged(do, two, held, save_unheard):
    store, other = two(a=1)
    store["b"] = 2
    save_unheard(store)
    do(other, "mutate", visit)
    store["c"] = 3

    do(store, "save")

    assert held(store) == {"a": 1, "b": 2, "c": 3, "visits": 1}
