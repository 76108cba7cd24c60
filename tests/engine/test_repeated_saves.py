"""What else a store does before, during and between its saves."""

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore


def test_a_separate_load_does_not_hide_a_race(do, stored):
    first = stored(a=1)
    second = SessionStore(first.session_key)
    do(second, "_get_session")["b"] = 2
    do(second, "save")

    assert do(first, "load") == {"a": 1, "b": 2}

    assert first._known.snapshot.revision == 0
    assert first._session_cache == {"a": 1}


def test_a_separate_load_does_not_hide_what_other_requests_have_stored(do, two, held):
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


def test_a_save_after_a_failed_one_loses_nothing(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    later["c"] = object()
    with pytest.raises(TypeError):
        do(later, "save")
    later["c"] = 3

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "c": 3}


def test_a_change_during_a_save_is_not_undone(do, two, held, monkeypatch):
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
