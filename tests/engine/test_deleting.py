"""One session is deleted, or all that have expired."""

from datetime import timedelta

import pytest
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import deleting
from django_mongo_sessions.storage import dates
from tests.conftest import collection, count_sessions
from tests.engine.helpers import loaded


def test_delete_deletes_this_session_or_the_given_one(do, stored):
    first, second = stored(a=1), stored(b=2)

    do(first, "delete", second.session_key)
    assert loaded(do, second) == {}
    assert loaded(do, first) == {"a": 1}

    do(first, "delete")
    assert count_sessions() == 0


def test_flush_deletes_the_session_and_forgets_the_key(do, stored):
    store = SessionStore(stored(a=1).session_key)

    do(store, "flush")

    assert store.session_key is None
    assert store.is_empty()
    assert store.modified
    assert count_sessions() == 0


def test_flush_deletes_whatever_other_requests_have_stored(do, two):
    store, other = two(a=1)
    other["b"] = 2
    do(other, "save")

    do(store, "flush")

    assert count_sessions() == 0
    other["c"] = 3
    with pytest.raises(UpdateError):
        do(other, "save")
    assert count_sessions() == 0


@pytest.mark.parametrize(("seconds", "left"), [(59, 0), (60, 1)])
def test_a_pointer_leads_to_the_session_for_a_minute(do, stored, monkeypatch, seconds, left):
    store = stored(a=1)
    early = SessionStore(store.session_key)
    do(store, "cycle_key")
    later = dates.utc_now() + timedelta(seconds=seconds)
    monkeypatch.setattr(dates, "utc_now", lambda: later)

    do(early, "delete")

    assert count_sessions() == left


def test_documents_that_are_not_sessions_are_not_removed(do):
    past = dates.utc_now() - timedelta(seconds=1)
    collection().insert_many({"_id": _id, "expires_at": past} for _id in (7, "text"))

    assert do(SessionStore, "clear_expired") == 0
    assert count_sessions() == 2


def test_expired_sessions_are_removed_in_batches_and_nothing_else(do, stored, monkeypatch):
    monkeypatch.setattr(deleting, "EXPIRED_BATCH", 4)
    live = [stored(n=n).session_key for n in range(3)]
    past = dates.utc_now() - timedelta(seconds=1)
    # Most of them in the very same millisecond.
    collection().insert_many(
        {"_id": b"\x01" + bytes([n]) * 32, "expires_at": past - timedelta(hours=n // 20)}
        for n in range(23)
    )

    assert do(SessionStore, "clear_expired") == 23
    assert do(SessionStore, "clear_expired") == 0
    assert all(do(SessionStore(), "exists", key) for key in live)
    assert count_sessions() == 3
