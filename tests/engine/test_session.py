"""Every transition of what a store knows of its session, without a server."""

import pytest
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.engine import mapping
from django_mongo_sessions.engine import session as sessions
from django_mongo_sessions.engine.session import TrackedSession, Write
from django_mongo_sessions.exceptions import SessionConflict
from django_mongo_sessions.storage import documents
from tests.engine.helpers import outcome

KEY = "0123456789abcdefghijklmnopqrstuv"
NEW_KEY = KEY[::-1]
DOCUMENT_ID = documents.document_id(KEY)


class Session(TrackedSession):
    """A session whose data is never loaded: each test sets what is known."""

    _session = property(lambda self: self._session_cache)


def snapshot_of(session, data, revision=0, key=KEY):
    """Return the snapshot of a document with these data."""
    content = session._content(data)
    steps = mapping.new(session, key, documents.document_id(key), content, None)
    _, expected = outcome(steps)
    return expected._replace(revision=revision)


@pytest.fixture
def session():
    """A session with a key, about which nothing is known."""
    return Session(KEY)


@pytest.fixture
def loaded(session):
    """A session that was loaded with `{"a": 1}` at revision 0."""
    session._adopt(snapshot_of(session, {"a": 1}))
    return session


def write_of(session, stored=None, data=None):
    """Return a write of the session, or of these data, over what is stored."""
    baseline = session._baseline
    stored = stored or baseline
    ours = session._content()
    content = ours if data is None else session._content(data)
    _, expected = outcome(mapping.update(session, stored, content))
    return Write(baseline, stored, ours, content, expected)


# Loading


def test_a_loaded_session_is_the_baseline(session):
    snapshot = snapshot_of(session, {"a": 1})

    session._adopt(snapshot)

    assert session._baseline is snapshot
    assert session._session_cache is snapshot.data


def test_a_session_that_does_not_exist_is_empty_and_has_no_baseline(session):
    session._adopt(None)

    assert session._session_cache == {}
    assert session._baseline is None


def test_a_loaded_session_does_not_replace_data_that_was_set_in_the_meantime(session):
    session.clear()

    session._adopt(snapshot_of(session, {"a": 1}))

    assert session._session_cache == {}
    assert session._baseline is None


def test_a_key_without_a_document_is_dropped(session):
    session._drop_key()

    assert session.session_key is None


def test_a_session_with_data_keeps_its_key(loaded):
    loaded._drop_key()

    assert loaded.session_key == KEY


def test_a_baseline_is_valid_for_the_dict_object_it_was_loaded_with(loaded):
    loaded._session_cache = {"a": 1}

    assert loaded._baseline is None


def test_a_baseline_is_valid_for_the_key_it_was_loaded_with(loaded):
    loaded._session_key = NEW_KEY

    assert loaded._baseline is None


# Clearing


def test_clear_keeps_the_baseline_to_replace_what_is_stored(loaded):
    loaded.clear()

    assert loaded._session_cache == {}
    assert loaded._baseline.body == b'{"a":1}'
    assert loaded._baseline.cleared


def test_a_cleared_session_is_not_merged(loaded):
    loaded.clear()
    ours = loaded._content()

    assert loaded._merged(loaded._baseline, snapshot_of(loaded, {"a": 2}, 1), ours) is ours


# Writing


def test_an_acknowledged_write_is_the_new_baseline(loaded):
    loaded["b"] = 2
    write = write_of(loaded)
    loaded._begin(write)

    loaded._acknowledge(write)

    assert loaded._baseline.revision == 1
    assert loaded._baseline.holds(loaded._content())
    assert loaded._wrote_recently()
    assert loaded._known.unconfirmed_writes == []


def test_a_change_during_a_write_is_unsaved(loaded):
    write = write_of(loaded)
    loaded["b"] = 2

    loaded._acknowledge(write)

    assert loaded._session_cache == {"a": 1, "b": 2}
    assert not loaded._baseline.holds(loaded._content())


def test_merged_changes_are_shown_and_are_not_unsaved(loaded):
    live = loaded._session_cache
    write = write_of(loaded, data={"a": 1, "theirs": [1]})

    loaded._acknowledge(write)

    assert loaded._session_cache is live
    assert live == {"a": 1, "theirs": [1]}
    assert loaded._baseline.holds(loaded._content())


def test_a_change_during_a_write_that_merges_stays_and_is_unsaved(loaded):
    write = write_of(loaded, data={"a": 1, "theirs": 1})
    loaded["a"] = 2

    loaded._acknowledge(write)

    assert loaded._session_cache == {"a": 2, "theirs": 1}
    assert not loaded._baseline.holds(loaded._content())


def test_a_clear_during_a_write_replaces_what_was_written(loaded):
    write = write_of(loaded, data={"a": 2})
    loaded.clear()

    loaded._acknowledge(write)

    assert loaded._session_cache == {}
    assert loaded._baseline.cleared
    assert loaded._baseline.revision == 1


def test_an_acknowledged_move_takes_over_the_key(loaded):
    moved = snapshot_of(loaded, loaded._session_cache, key=NEW_KEY)

    loaded._acknowledge(write_of(loaded)._replace(expected=moved))

    assert loaded.session_key == NEW_KEY
    assert loaded._baseline.key == NEW_KEY
    assert loaded.modified


def test_a_write_leaves_another_dict_of_the_session_alone(loaded):
    write = write_of(loaded, data={"a": 2})
    loaded._session_cache = {}

    loaded._acknowledge(write)

    assert loaded._session_cache == {}
    assert loaded._baseline.cleared


def test_a_write_that_a_blocking_one_has_overtaken_changes_nothing(loaded):
    slow, fast = write_of(loaded, data={"a": 2}), write_of(loaded, data={"a": 3})
    loaded._acknowledge(fast)

    loaded._acknowledge(slow)

    assert loaded._session_cache == {"a": 3}
    assert loaded._baseline.write_id == fast.expected.write_id


def test_an_insert_takes_over_key_and_content():
    session = Session()
    session._adopt(None)
    ours, content = session._content(), session._content({"n": 1})
    expected = snapshot_of(session, content.data)

    session._inserted(expected, ours, content)

    assert session.session_key == KEY
    assert session._session_cache == {"n": 1}
    assert session._baseline.holds(session._content())


def test_a_write_is_recent_for_a_second_and_can_be_forgotten(loaded):
    loaded._acknowledge(write_of(loaded))
    assert loaded._wrote_recently()

    loaded._known.last_write -= sessions.WRITE_INTERVAL
    assert not loaded._wrote_recently()

    loaded._acknowledge(write_of(loaded))
    loaded._forget_last_write()
    assert not loaded._wrote_recently()


# Lost replies


def test_a_write_whose_reply_was_lost_is_recognized_when_it_is_read(loaded):
    loaded["b"] = 2
    write = write_of(loaded)
    loaded._begin(write)

    loaded._reread(write.expected)

    assert loaded._baseline.revision == 1
    assert loaded._known.unconfirmed_writes == []


def test_an_equal_write_of_another_request_is_not_taken_for_ours(loaded):
    loaded["b"] = 2
    write = write_of(loaded)
    loaded._begin(write)

    loaded._reread(write.expected._replace(write_id=documents.new_write_id()))

    assert loaded._baseline.revision == 0
    assert loaded._known.unconfirmed_writes == [write]


def test_a_write_that_lost_a_race_leaves_an_earlier_one_to_be_recognized(loaded):
    earlier, later = write_of(loaded, data={"a": 2}), write_of(loaded, data={"a": 3})
    loaded._begin(earlier)
    loaded._begin(later)

    loaded._withdraw(later)
    loaded._reread(earlier.expected)

    assert loaded._session_cache == {"a": 2}
    assert loaded._baseline.revision == 1


def test_only_the_last_unconfirmed_writes_are_remembered(loaded):
    writes = [write_of(loaded, data={"a": n}) for n in range(20)]
    for write in writes:
        loaded._begin(write)

    assert loaded._known.unconfirmed_writes == writes[-8:]


# Documents beside the session's own


def test_a_new_document_is_a_stray_until_the_session_takes_over_its_key(loaded):
    expected = snapshot_of(loaded, {"a": 1}, key=NEW_KEY)
    loaded._expect_stray(expected)
    assert loaded._known.strays == {expected.document_id: expected.write_id}

    content = loaded._content()
    loaded._inserted(expected, content, content)

    assert loaded._known.strays == {}
    assert loaded._known.left == {DOCUMENT_ID: None}


def test_a_document_that_does_not_exist_is_not_a_stray(loaded):
    expected = snapshot_of(loaded, {"a": 1}, key=NEW_KEY)
    loaded._expect_stray(expected)

    loaded._forget_stray(expected.document_id)

    assert loaded._known.strays == {}


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_a_move_leaves_a_pointer(loaded, is_confirmed):
    moved = snapshot_of(loaded, loaded._session_cache, key=NEW_KEY)

    loaded._moved(write_of(loaded)._replace(expected=moved), b"pointer", is_confirmed)

    assert loaded.session_key == NEW_KEY
    assert loaded._known.left == {DOCUMENT_ID: b"pointer"}
    assert (loaded._known.unfinished_move is None) == is_confirmed
    assert loaded._wrote_recently() == is_confirmed


@pytest.fixture
def moved(loaded):
    """A session at its new key, whose old key may still open it too."""
    new = snapshot_of(loaded, loaded._session_cache, key=NEW_KEY)
    loaded._moved(write_of(loaded)._replace(expected=new), b"pointer", is_confirmed=False)
    return loaded


def test_what_was_stored_under_the_old_key_becomes_an_unsaved_change(moved):
    newest = snapshot_of(moved, {"a": 1, "theirs": 1}, revision=1)
    moved["ours"] = 1

    moved._bring_along(moved._known.unfinished_move, newest)

    assert moved._session_cache == {"a": 1, "theirs": 1, "ours": 1}
    assert moved._baseline.key == NEW_KEY
    assert not moved._baseline.holds(moved._content())
    assert moved._known.unfinished_move.old is newest


def test_a_session_that_was_cleared_takes_nothing_along_from_its_old_key(moved):
    newest = snapshot_of(moved, {"a": 2}, revision=1)
    moved.clear()

    moved._bring_along(moved._known.unfinished_move, newest)

    assert moved._session_cache == {}
    assert moved._known.unfinished_move.old is newest


def test_a_move_is_finished_once_the_old_key_opens_nothing(moved):
    moved._finish_move()

    assert moved._known.unfinished_move is None


def test_a_session_that_was_not_loaded_replaces_what_is_stored(session):
    session.clear()

    session._reread(snapshot_of(session, {"a": 1}))

    assert session._session_cache == {}
    assert session._baseline.cleared


def test_what_a_subclass_has_loaded_does_not_replace_what_the_session_has_got_since(session):
    session._adopt(snapshot_of(session, {"b": 2}))

    session._adopt_overridden({"a": 1})

    assert session._session_cache == {"b": 2}


# Merging


def test_the_changes_of_both_sides_are_kept(loaded):
    loaded["ours"] = 1
    theirs = snapshot_of(loaded, {"a": 1, "theirs": 1}, 1)

    merged = loaded._merged(loaded._baseline, theirs, loaded._content())

    assert merged.data == {"a": 1, "theirs": 1, "ours": 1}


def test_a_conflict_is_raised_if_ON_CONFLICT_is_raise(loaded, settings):
    settings.MONGO_SESSIONS = {"ON_CONFLICT": "raise"}
    loaded["a"] = 2
    theirs = snapshot_of(loaded, {"a": 3}, 1)

    with pytest.raises(SessionConflict, match="Another request has changed 'a' too"):
        loaded._merged(loaded._baseline, theirs, loaded._content())


# Flushing


def test_a_flushed_session_has_no_key_and_no_baseline(loaded):
    loaded._begin_flush()
    loaded._flushed()

    assert loaded.session_key is None
    assert loaded._known.snapshot is None


def test_a_write_ends_as_soon_as_a_flush_begins(loaded):
    guard = loaded._guard()

    loaded._begin_flush()

    with pytest.raises(UpdateError, match="was deleted"):
        guard()


def test_a_write_that_began_before_a_flush_ends_with_an_error(loaded):
    guards = [loaded._guard()]
    guards[0]()

    loaded._begin_flush()
    guards.append(loaded._guard())
    loaded._flushed()

    for guard in guards:
        with pytest.raises(UpdateError, match="was deleted"):
            guard()
    loaded._guard()()
