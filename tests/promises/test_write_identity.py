"""No write is mistaken for another: not after a rollback, and not in the same millisecond."""

from dataclasses import replace

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import AutoReconnect, DuplicateKeyError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection, count_sessions
from tests.promises.test_lost_replies import HOW, count, undone, unheard


def backup():
    return list(collection().find({}))


def restore(saved):
    """Return the collection to an earlier state, as a rollback or a restored backup does."""
    collection().delete_many({})
    collection().insert_many(saved)


def another(do, store):
    """Return another request's store of the same session, loaded."""
    other = SessionStore(store.session_key)
    do(other, "_get_session")
    return other


@pytest.mark.parametrize("verb", ["save", "mutate", "cycle_key"])
def test_a_revision_that_is_used_again_after_a_rollback_is_another_write(do, stored, verb):
    unacknowledged = stored(base=1)
    saved = backup()
    unacknowledged["a"] = 1
    do(unacknowledged, "save")
    reader = another(do, unacknowledged)
    restore(saved)  # the primary fails
    buyer = another(do, unacknowledged)
    buyer["paid_order"] = 4711
    do(buyer, "save")
    assert buyer._known.snapshot.revision == reader._known.snapshot.revision

    reader["b"] = 1
    do(reader, verb, *([lambda data: None] if verb == "mutate" else []))

    data = do(SessionStore(reader.session_key), "load")
    assert data["paid_order"] == 4711
    assert data["b"] == 1
    assert count_sessions() == 1


def test_a_session_whose_last_write_was_rolled_back_moves_with_the_stored_data(do, stored):
    store = stored(base=1)
    saved = backup()
    for n in range(3):
        store["n"] = n
        do(store, "save")
    restore(saved)

    do(store, "cycle_key")

    assert do(SessionStore(store.session_key), "load")["base"] == 1
    assert count_sessions() == 1
    other = another(do, store)
    other["theirs"] = 1
    do(other, "save")
    store["ours"] = 1
    do(store, "save")
    assert do(SessionStore(store.session_key), "load") == {"base": 1, "theirs": 1, "ours": 1}


def test_two_equal_writes_in_one_millisecond_both_count(do, stored, lose, before, monkeypatch):
    now = dates.utc_now()
    monkeypatch.setattr(dates, "utc_now", lambda: now)
    first = another(do, stored(count=0))
    second = another(do, first)
    before("confirm", lambda: second.mutate(count))
    lose("update", undone)

    assert do(first, "mutate", count) == 2
    assert do(SessionStore(first.session_key), "load")["count"] == 2


def test_a_write_that_arrives_between_the_look_and_the_repeat_is_applied_once(
    do, stored, monkeypatch
):
    store = another(do, stored(count=0))
    real = operations.update

    def delayed(*args):
        operation, sent = real(*args), []

        def call(target):
            if not sent:
                sent.append(operation)
                raise AutoReconnect("connection closed")
            operation.call(collection())  # the first one arrives
            return operation.call(target)

        return replace(operation, call=call)

    monkeypatch.setattr(operations, "update", delayed)

    assert do(store, "mutate", count) == 1
    assert do(SessionStore(store.session_key), "load")["count"] == 1


def test_a_write_that_may_have_been_overwritten_is_not_repeated(do, stored, lose, before):
    """It is unknown whether another request has seen it, so it raises an error."""
    store = another(do, stored(count=0))
    other = SessionStore(store.session_key)
    before("confirm", lambda: other.mutate(count))
    lose("update", unheard)

    with pytest.raises(AutoReconnect):
        do(store, "mutate", count)

    assert do(SessionStore(store.session_key), "load")["count"] == 2


def test_a_write_that_may_have_moved_to_another_key_is_not_taken_for_a_sign_out(
    do, stored, lose, before
):
    """UpdateError says that nothing was stored, and here another request has moved what was."""
    store = another(do, stored(count=0))
    other = SessionStore(store.session_key)
    before("confirm", other.cycle_key)
    lose("update", unheard)

    with pytest.raises(AutoReconnect):
        do(store, "mutate", count)

    assert do(SessionStore(other.session_key), "load")["count"] == 1


def test_an_insert_that_arrives_late_creates_no_session(do, lose, monkeypatch):
    sent = []
    real = operations.insert

    def kept(document):
        sent.append(document)
        return real(document)

    monkeypatch.setattr(operations, "insert", kept)
    store = SessionStore()
    store["a"] = 1
    lose("insert", undone)

    do(store, "save")

    with pytest.raises(DuplicateKeyError):
        collection().insert_one(sent[0])
    assert do(SessionStore(store.session_key), "load") == {"a": 1}
    assert count_sessions() == 1


def test_an_insert_that_arrives_as_its_id_is_taken_is_no_session(do, lose, monkeypatch):
    """Two upserts of one id can meet, and then the server refuses the later one."""
    sent = []
    insert, occupy = operations.insert, operations.occupy

    def kept(document):
        sent.append(document)
        return insert(document)

    def overtaken(marker):
        operation, met = occupy(marker), []

        def call(target):
            if not met:
                met.append(collection().insert_one(sent[0]))
                raise DuplicateKeyError("E11000", 11000)
            return operation.call(target)

        return replace(operation, call=call)

    monkeypatch.setattr(operations, "insert", kept)
    monkeypatch.setattr(operations, "occupy", overtaken)
    store = SessionStore()
    store["a"] = 1
    lose("insert", undone)

    do(store, "save")

    assert do(SessionStore(store.session_key), "load") == {"a": 1}
    assert count_sessions() == 1


@HOW
def test_a_session_that_was_signed_out_does_not_come_back_with_a_move(do, stored, lose, how):
    store = another(do, stored(**{SESSION_KEY: "7"}))
    do(SessionStore(store.session_key), "flush")
    lose("replace", how)

    with pytest.raises(UpdateError):
        do(store, "cycle_key")

    assert count_sessions() == 0


def test_a_document_without_an_identity_does_not_open(do, stored):
    store = stored(a=1)
    collection().update_one({}, {"$unset": {"write_id": True}})

    assert do(SessionStore(store.session_key), "load") == {}
    assert documents.document_id(store.session_key) == collection().find_one()["_id"]
