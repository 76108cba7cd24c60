"""What a store knows of its document, and when it counts."""

from django_mongo_sessions import dates, documents, state
from django_mongo_sessions.state import SessionState, Snapshot

KEY = "0123456789abcdefghijklmnopqrstuv"


def knowing(data):
    """Return a session that holds data, with what the server holds of it."""
    session = SessionState(KEY)
    session._session_cache = data
    document_id = documents.stored_id(KEY)
    now = dates.utc_now()
    session._wrote(Snapshot(KEY, document_id, data, now, now, b"{}"))
    return session


def test_a_snapshot_counts_for_the_very_dict_that_it_came_with():
    session = knowing({"a": 1})
    assert session._current() is session._snapshot

    session._session_cache = {"a": 1}

    assert session._current() is None


def test_a_snapshot_counts_for_the_key_that_it_came_with():
    session = knowing({})

    session._session_key = KEY[::-1]

    assert session._current() is None


def test_clear_keeps_what_the_server_is_known_to_hold():
    session = knowing({"a": 1})

    session.clear()

    assert session._session_cache == {}
    assert session._current().body == b"{}"


def test_a_write_is_recent_for_a_second_and_can_be_forgotten():
    session = knowing({})
    assert session._has_just_written()

    session._written_at -= state.WRITE_INTERVAL
    assert not session._has_just_written()

    session._wrote(session._snapshot)
    session._forget_write()
    assert not session._has_just_written()
