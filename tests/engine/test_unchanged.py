"""A save that changes nothing, after one that has merged."""

import pytest

from django_mongo_sessions.engine import saving
from tests.conftest import SESSIONS, collection
from tests.engine.helpers import answer, finish, visit


@pytest.fixture
def merged(do, two):
    """A store whose keys are in another order than in the stored session."""
    earlier, later = two(z=1)
    earlier["a"] = 1
    do(earlier, "save")
    later["b"] = 2
    do(later, "save")
    assert list(later.keys()) == ["z", "b", "a"]
    return later


def test_within_a_second_an_unchanged_save_sends_nothing(do, merged):
    [document] = collection().find(SESSIONS)

    do(merged, "save")

    assert list(collection().find(SESSIONS)) == [document]


def test_later_an_unchanged_save_sends_no_payload(do, merged):
    [before] = collection().find(SESSIONS)
    merged._forget_last_write()

    do(merged, "save")

    [after] = collection().find(SESSIONS)
    assert (after["payload"], after["revision"]) == (before["payload"], before["revision"])


def test_a_merged_session_does_not_look_changed(do, tracking, two):
    store, other = two(y=1, z=1)
    other["y"] = other.pop("y")
    do(other, "save")

    do(store, "mutate", visit)

    assert store._nested_change() is None


def test_a_change_during_the_merge_is_saved(do, two, held):
    store, other = two(a=1)
    do(other, "mutate", visit)
    steps = saving.save(store)
    operation = steps.send(answer(steps.send(answer(steps.send(answer(next(steps)))))))
    store["b"] = 1

    finish(steps, operation)

    do(store, "save")
    assert held(store) == {"a": 1, "visits": 1, "b": 1}
