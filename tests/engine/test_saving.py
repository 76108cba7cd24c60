"""What one request saves."""

from datetime import timedelta

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import session
from django_mongo_sessions.storage import dates
from tests.engine.helpers import UNKNOWN, change_document, loaded, the_document


def test_a_change_is_saved_under_the_same_key(do, stored):
    store = SessionStore(stored(a=1, b=1).session_key)
    created_at = the_document()["created_at"]
    data = do(store, "_get_session")
    data["a"], data["c"] = 2, 3
    del data["b"]

    do(store, "save")

    assert loaded(do, store) == {"a": 2, "c": 3}
    assert the_document()["revision"] == 1
    assert the_document()["created_at"] == created_at


def test_a_change_inside_a_value_is_saved(do, stored):
    store = SessionStore(stored(cart=[1]).session_key)
    do(store, "_get_session")["cart"].append(2)

    do(store, "save")

    assert loaded(do, store) == {"cart": [1, 2]}


def test_equal_values_of_other_types_are_a_change(do, stored):
    store = SessionStore(stored(flag=1).session_key)
    do(store, "_get_session")["flag"] = True

    do(store, "save")

    assert loaded(do, store)["flag"] is True


def test_saving_twice_saves_the_second_change_too(do, stored):
    store = stored(a=1)
    for value in (2, 3):
        store["a"] = value
        do(store, "save")

    assert loaded(do, store) == {"a": 3}
    assert the_document()["revision"] == 2


def test_a_save_without_a_change_only_moves_the_expiry(do, stored):
    store = SessionStore(stored(a=1).session_key)
    soon = dates.utc_now() + timedelta(minutes=1)
    change_document(expires_at=soon, seen_at=soon - timedelta(days=1))
    before = the_document()

    do(store, "save")

    after = the_document()
    assert after["expires_at"] > before["expires_at"]
    assert after["seen_at"] > before["seen_at"]
    assert after["payload"] == before["payload"]
    assert after["revision"] == before["revision"]


def test_a_save_without_a_change_sends_nothing_just_after_the_stores_own_write(do, stored):
    store = stored(a=1)
    soon = dates.utc_now() + timedelta(minutes=1)
    change_document(expires_at=soon)

    do(store, "save")
    assert the_document()["expires_at"] == soon

    store._known.last_write -= session.WRITE_INTERVAL
    do(store, "save")
    assert the_document()["expires_at"] > soon


@pytest.mark.parametrize("data", [{"a": 1}, {"_session_expiry": 3600}])
@pytest.mark.parametrize("days", [1, -1])
def test_but_it_is_written_if_the_clock_was_set(do, stored, monkeypatch, data, days):
    store = stored(**data)
    before = the_document()
    now = dates.utc_now
    monkeypatch.setattr(dates, "utc_now", lambda: now() + timedelta(days=days))

    do(store, "save")

    after = the_document()
    moved = (after["expires_at"] - before["expires_at"]).total_seconds()
    assert moved == pytest.approx(days * 24 * 3600, abs=30)
    do(store, "save")
    assert the_document() == after


@pytest.mark.parametrize("age", [60, 30 * 24 * 3600])
def test_or_if_sessions_last_for_another_time(do, stored, settings, age):
    store = stored(a=1)
    settings.SESSION_COOKIE_AGE = age

    do(store, "save")

    document = the_document()
    assert (document["expires_at"] - document["seen_at"]).total_seconds() == age


def test_nor_does_a_fixed_expiry_move(do, stored):
    later = dates.utc_now() + timedelta(days=1)
    store = stored(_session_expiry=later.isoformat())
    before = the_document()

    do(store, "save")

    assert the_document() == before


def test_a_save_after_the_stale_key_was_dropped_begins_a_new_session(do):
    store = SessionStore(UNKNOWN)
    do(store, "_get_session")["a"] = 1

    do(store, "save")

    assert store.session_key not in (None, UNKNOWN)
    assert loaded(do, store) == {"a": 1}
