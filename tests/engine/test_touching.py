"""The middleware's touches: the expiry of a session that was read moves on."""

from datetime import timedelta

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import dates
from tests.conftest import collection
from tests.engine.helpers import loaded, the_document


def test_a_session_that_was_not_read_is_not_touched(do, stored):
    session = SessionStore(stored(a=1).session_key)

    assert do(session, "_touch") is False


def test_a_touch_moves_the_expiry_and_returns_true(do, stored):
    session = stored(a=1)
    before = collection().find_one({})

    assert do(session, "_touch") is True

    after = collection().find_one({})
    assert after["expires_at"] >= before["expires_at"]
    assert after["revision"] == before["revision"]


def test_a_session_that_another_request_has_written_is_not_touched(do, stored):
    session = stored(a=1)
    other = SessionStore(session.session_key)
    other["b"] = 2
    do(other, "save")

    assert do(session, "_touch") is False


def test_a_touch_does_not_undo_what_another_store_has_saved(do, stored):
    poll = SessionStore(stored(a=1).session_key)
    do(poll, "_get_session")
    other = SessionStore(poll.session_key)
    do(other, "_get_session")["b"] = 2
    other.set_expiry(60)
    do(other, "save")

    do(poll, "save")

    assert loaded(do, poll) == {"a": 1, "b": 2, "_session_expiry": 60}
    assert the_document()["expires_at"] < dates.utc_now() + timedelta(seconds=61)


def test_a_session_that_was_mutated_is_modified(do, stored):
    # So that the middleware lets the cookie follow.
    session = SessionStore(stored(a=1).session_key)

    do(session, "mutate", lambda data: data.update(a=2))

    assert session.modified
