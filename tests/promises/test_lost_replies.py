"""The connection breaks before the server's reply to a write: it is applied once or not at all."""

import asyncio
import inspect
from dataclasses import replace

import pytest
from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import operations
from tests.conftest import collection, count_sessions
from tests.promises.conftest import CUT

KEY = "0123456789abcdefghijklmnopqrstuv"
# A single mongod's reply to a write that PyMongo repeats after a connection broke too soon.
NO_TRANSACTIONS = OperationFailure(
    "Transaction numbers are only allowed on a replica set member", 20
)
LATE = [NetworkTimeout("no reply"), WTimeoutError("not confirmed", 64)]


def unheard(operation, error):
    """Return the operation, but lose its reply."""

    def call(sessions):
        reply = operation.call(sessions)
        if not inspect.isawaitable(reply):
            raise error

        async def lose():
            await reply
            raise error

        return lose()

    return replace(operation, call=call)


def undone(operation, error):
    """Return the operation, but do not let it reach the server."""

    def call(sessions):
        raise error

    return replace(operation, call=call)


HOW = pytest.mark.parametrize("how", [unheard, undone])


def documents():
    return count_sessions()


def count(data):
    data["count"] = data.get("count", 0) + 1
    return data["count"]


@HOW
@pytest.mark.parametrize("error", [CUT, NO_TRANSACTIONS])
def test_a_first_save_creates_one_session(do, lose, how, error):
    store = SessionStore()
    store["a"] = 1
    lose("insert", how, error)

    do(store, "save")

    assert documents() == 1
    assert do(SessionStore(store.session_key), "load") == {"a": 1}


@HOW
def test_a_session_is_created_under_a_free_key(do, lose, how):
    store = SessionStore(KEY)
    store._session_cache = {"a": 1}
    lose("insert", how)

    do(store, "save", must_create=True)

    assert do(SessionStore(KEY), "load") == {"a": 1}


def test_a_taken_key_is_still_refused(do, lose, stored):
    key = stored(a="theirs").session_key
    store = SessionStore(key)
    store._session_cache = {"a": 1}
    lose("insert", undone)

    with pytest.raises(CreateError):
        do(store, "save", must_create=True)

    assert do(SessionStore(key), "load") == {"a": "theirs"}


@HOW
@pytest.mark.parametrize("error", LATE)
@pytest.mark.parametrize("key", [None, KEY])
def test_after_a_timeout_an_insert_counts_as_neither_done_nor_undone(do, lose, how, error, key):
    store = SessionStore(key)
    store._session_cache = {"a": 1}
    lose("insert", how, error)
    with pytest.raises(type(error)):
        do(store, "save", must_create=bool(key))
    assert store.session_key == key

    store["b"] = 2
    do(store, "save", must_create=bool(key))

    assert documents() == 1
    assert do(SessionStore(store.session_key), "load") == {"a": 1, "b": 2}


def test_an_unconfirmed_insert_is_taken_back_when_that_is_possible(do, lose):
    store = SessionStore()
    store["a"] = 1
    lose("insert", unheard, LATE[0])
    lose("delete_write", undone, LATE[0])
    for _ in range(2):
        with pytest.raises(NetworkTimeout):
            do(store, "save")

    do(store, "save")

    assert documents() == 1


def test_the_document_of_another_request_is_not_taken_back(do, lose, stored):
    key = stored(a="theirs").session_key
    store = SessionStore(key)
    store._session_cache = {"a": 1}
    lose("insert", undone, LATE[0])
    with pytest.raises(NetworkTimeout):
        do(store, "save", must_create=True)

    with pytest.raises(CreateError):
        do(store, "save", must_create=True)

    assert do(SessionStore(key), "load") == {"a": "theirs"}


def test_a_document_that_was_read_in_the_meantime_is_not_taken_back(do, lose):
    store = SessionStore(KEY)
    store._session_cache = {"a": 1}
    lose("insert", unheard, LATE[0])
    with pytest.raises(NetworkTimeout):
        do(store, "save", must_create=True)
    del store._session_cache
    do(store, "_get_session")

    do(store, "cycle_key")

    assert documents() == 1
    assert do(SessionStore(store.session_key), "load") == {"a": 1}


def test_an_insert_that_arrives_during_the_look_is_recognized(do, lose, monkeypatch):
    """The second attempt meets the first one, and does not take the key for another session's."""
    store = SessionStore(KEY)
    store._session_cache = {"a": 1}
    confirm = operations.confirm
    lose("insert", unheard)
    asked = []

    def not_yet(*args):
        asked.append(args)
        operation = confirm(*args)
        first = []

        def read(reply):
            first.append(reply)
            return len(first) > 1 and operation.read(reply)

        return replace(operation, read=read)

    monkeypatch.setattr(operations, "confirm", not_yet)

    do(store, "save", must_create=True)

    assert len(asked) == 1
    assert do(SessionStore(KEY), "load") == {"a": 1}


@pytest.mark.only("mongod")
def test_a_confirmed_write_is_as_durable_as_an_acknowledged_one(do, lose, commands, stored):
    """The engine looks for it with a write, which waits for the majority, and not with a read."""
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    store["a"] = 2
    lose("update", unheard)
    commands.names()

    do(store, "save")

    assert commands.names() == ["update", "update"]


def test_a_cancelled_insert_is_taken_back(mongod_engine, settings, monkeypatch):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}
    insert = operations.insert

    def slow(document):
        async def call(sessions):
            await sessions.insert_one(document)
            await asyncio.sleep(60)

        return replace(insert(document), call=call)

    async def give_up():
        store = SessionStore()
        store["a"] = 1
        with monkeypatch.context() as patch:
            patch.setattr(operations, "insert", slow)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(store.asave(), 0.5)
        assert documents() == 1
        await store.asave()

    asyncio.run(give_up())

    assert documents() == 1


@HOW
def test_a_save_does_not_conflict_with_its_own_write(do, lose, stored, settings, how):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ON_CONFLICT": "raise"}
    store = SessionStore(stored(a=1).session_key)
    do(store, "load")
    do(store, "_get_session")
    store["a"] = 2
    lose("update", how)

    do(store, "save")

    assert do(SessionStore(store.session_key), "load") == {"a": 2}
    assert collection().find_one()["revision"] == 1


@HOW
def test_a_mutate_is_applied_once(do, lose, stored, how):
    store = SessionStore(stored().session_key)
    lose("update", how)

    assert do(store, "mutate", count) == 1
    assert do(SessionStore(store.session_key), "load") == {"count": 1}


def test_a_write_whose_confirmation_is_lost_too_raises_an_error(do, lose, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    store["a"] = 2
    lose("update", unheard)
    lose("confirm", unheard)

    with pytest.raises(AutoReconnect):
        do(store, "save")

    do(store, "save")
    assert do(SessionStore(store.session_key), "load") == {"a": 2}


# What says that an operation was not applied. It says nothing of the one before.
NOT_APPLIED = pytest.mark.parametrize(
    "error", [ServerSelectionTimeoutError("no server"), NO_TRANSACTIONS]
)


@NOT_APPLIED
def test_a_first_save_that_may_have_been_applied_is_taken_back(do, lose, error):
    store = SessionStore()
    store["a"] = 1
    lose("insert", unheard)
    lose("confirm", undone, error)
    with pytest.raises(AutoReconnect, match="connection closed"):
        do(store, "save")

    do(store, "save")

    assert documents() == 1


@NOT_APPLIED
def test_a_move_that_may_have_been_made_keeps_the_session(do, lose, stored, error):
    store = SessionStore(stored(_auth_user_id="7").session_key)
    lose("replace_with", unheard)
    lose("confirm", undone, error)
    with pytest.raises(AutoReconnect, match="connection closed"):
        do(store, "cycle_key")

    store["a"] = 1
    do(store, "save")

    assert do(SessionStore(store.session_key), "load") == {"_auth_user_id": "7", "a": 1}
    assert documents() == 1


@HOW
@pytest.mark.parametrize("name", ["insert", "replace_with"])
@pytest.mark.parametrize("data", [{"a": 1}, {"_auth_user_id": "7"}])
def test_a_session_moves_to_its_new_key(do, lose, stored, how, name, data):
    old = stored(**data).session_key
    store = SessionStore(old)
    lose(name, how)

    do(store, "cycle_key")

    assert store.session_key != old
    assert documents() == 1
    assert do(SessionStore(store.session_key), "load") == data


@pytest.mark.parametrize("error", [*LATE, CUT])
@pytest.mark.parametrize("data", [{"a": 1}, {"_auth_user_id": "7"}])
def test_the_session_has_the_new_key_if_the_old_one_may_open_nothing(do, lose, stored, data, error):
    old = stored(**data).session_key
    store = SessionStore(old)
    lose("replace_with", unheard, error)
    if error is CUT:
        lose("confirm", undone, error)

    with pytest.raises(type(error)):
        do(store, "cycle_key")

    assert store.session_key != old
    assert documents() == 1
    assert do(SessionStore(store.session_key), "load") == data
    store["b"] = 2
    do(store, "save")


@pytest.mark.parametrize(
    "error", [ServerSelectionTimeoutError("no server"), OperationFailure("not authorized", 13)]
)
def test_the_session_keeps_the_old_key_if_that_one_certainly_opens_it(do, lose, stored, error):
    old = stored(a=1).session_key
    store = SessionStore(old)
    lose("replace_with", undone, error)

    with pytest.raises(type(error)):
        do(store, "cycle_key")

    assert store.session_key == old
    assert do(SessionStore(old), "load") == {"a": 1}


@HOW
@pytest.mark.parametrize("name", ["update", "replace_with"])
def test_a_move_brings_along_what_other_requests_have_stored(do, lose, stored, how, name):
    """The pointer misses: another request has stored the session."""
    old = stored(a=1).session_key
    store = SessionStore(old)
    do(store, "_get_session")
    other = SessionStore(old)
    other["b"] = 2
    do(other, "save")
    lose(name, how)

    do(store, "cycle_key")

    assert documents() == 1
    assert do(SessionStore(store.session_key), "load") == {"a": 1, "b": 2}


@HOW
@pytest.mark.parametrize("verb", ["delete", "flush"])
def test_a_session_that_was_deleted_is_gone(do, lose, stored, how, verb):
    store = stored(a=1)
    lose("delete", how)

    do(store, verb)

    assert documents() == 0


@pytest.mark.parametrize("name", ["insert", "update", "delete"])
def test_a_call_that_has_timed_out_is_not_repeated(do, lose, stored, name):
    store = stored(a=1)
    store["a"] = 2
    lose(name, undone, LATE[0])
    verb = {"insert": "create", "update": "save", "delete": "delete"}[name]

    with pytest.raises(NetworkTimeout):
        do(store, verb)

    assert do(SessionStore(store.session_key), "load") == {"a": 1}


@HOW
def test_a_session_that_was_signed_out_in_the_meantime_does_not_come_back(do, lose, stored, how):
    store = stored(a=1)
    do(SessionStore(store.session_key), "delete")
    store["a"] = 2
    lose("update", how)

    with pytest.raises(UpdateError):
        do(store, "save")

    assert documents() == 0


@HOW
def test_a_touch_is_done_even_if_its_reply_is_lost(do, lose, stored, how):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    lose("update", how)

    assert do(store, "_touch")
