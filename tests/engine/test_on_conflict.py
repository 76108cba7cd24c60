"""A conflict is raised: by ON_CONFLICT, or after a race that is always lost."""

import pytest

from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.mongo import operations, writes
from django_mongo_sessions.storage import documents
from tests.conftest import collection, count_sessions
from tests.engine.helpers import raise_conflicts


def test_a_conflict_names_the_keys_and_no_values(do, two, held, settings):
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


def test_changes_without_a_conflict_are_merged(do, two, held, settings):
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
    assert count_sessions() == 1


@pytest.mark.parametrize("verb", ["save", "cycle_key"])
def test_a_race_that_is_always_lost_ends_with_a_conflict(do, two, monkeypatch, verb):
    monkeypatch.setattr(writes, "_MAX_ATTEMPTS", 3)
    monkeypatch.setattr(writes, "_LONGEST_DELAY", 0)
    store, _ = two(a=1)
    store["b"] = 2
    name = {"save": "update", "cycle_key": "replace_with"}[verb]
    write = getattr(operations, name)

    def overtaken(document_id, *args):
        theirs = {"$set": {"write_id": documents.new_write_id()}}
        collection().update_one({"_id": document_id}, theirs)
        return write(document_id, *args)

    monkeypatch.setattr(operations, name, overtaken)
    with pytest.raises(SessionConflict, match="3 attempts") as conflict:
        do(store, verb)

    assert conflict.value.keys == ()
    assert count_sessions() == 1
