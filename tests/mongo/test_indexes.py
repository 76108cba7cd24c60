"""The TTL index, created after a process's first insert."""

import logging
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from pymongo.errors import OperationFailure

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import errors
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run_on
from django_mongo_sessions.storage import dates
from django_mongo_sessions.storage.documents import TTL_INDEX
from tests.conftest import ACTIONS, collection

NAME = TTL_INDEX.name


@pytest.fixture
def no_index(do, monkeypatch):
    """As in a new process, on a collection without an index."""
    monkeypatch.setattr(indexes, "_ensured", set())


@pytest.fixture
def no_index_yet(monkeypatch):
    """The same without a server."""
    monkeypatch.setattr(indexes, "_ensured", set())


def test_the_first_insert_of_a_process_creates_the_index(do, no_index):
    do(SessionStore(), "save")

    index = collection().index_information()[NAME]
    assert [tuple(pair) for pair in index["key"]] == [("expires_at", 1)]
    assert index["expireAfterSeconds"] == 0


def test_the_second_insert_does_not_check_the_index(do, no_index):
    do(SessionStore(), "save")
    collection().drop_index(NAME)

    do(SessionStore(), "save")

    assert NAME not in collection().index_information()


def test_an_existing_index_is_left_alone(do, no_index, logged):
    do(SessionStore(), "save")
    indexes._ensured.clear()

    do(SessionStore(), "save")

    assert not logged()


def test_an_index_of_another_name_that_does_the_same_is_enough(do, no_index, logged):
    collection().create_index([("expires_at", 1)], name="theirs", expireAfterSeconds=0)

    do(SessionStore(), "save")

    assert not logged()
    assert NAME not in collection().index_information()


def test_a_cancelled_request_leaves_the_index_to_the_next_one(do, no_index):
    cancelled = indexes.ensure_once()
    next(cancelled)
    cancelled.close()

    do(SessionStore(), "save")

    assert NAME in collection().index_information()


def test_a_large_collection_is_not_indexed_during_a_request(do, no_index, logged, monkeypatch):
    monkeypatch.setattr(indexes, "_MAX_DOCUMENTS", 2)
    collection().insert_many({"_id": n} for n in range(2))

    do(SessionStore(), "save")
    do(SessionStore(), "save")

    assert NAME not in collection().index_information()
    [record] = logged()
    assert (record.name, record.levelno) == ("django_mongo_sessions", logging.WARNING)
    assert "3 documents" in record.getMessage()
    assert "mongosessions indexes --apply" in record.getMessage()


@pytest.mark.only("mongod")
def test_a_foreign_index_is_left_and_ours_created_beside_it(do, no_index, logged):
    collection().create_index([("expires_at", 1)], name="by_date")

    do(SessionStore(), "save")

    assert not logged()
    known = collection().index_information()
    assert "expireAfterSeconds" not in known["by_date"]
    assert known[NAME]["expireAfterSeconds"] == 0


def test_one_of_ours_that_is_in_the_way_is_a_warning_and_no_error(do, no_index, logged):
    collection().create_index([("expires_at", 1)], name=NAME)
    store = SessionStore()

    do(store, "save")

    assert do(store, "exists", store.session_key)
    [record] = logged()
    assert f"{NAME} is in the way: not TTL" in record.getMessage()


@pytest.mark.only("mongod")
def test_all_commands_for_the_index_take_a_second_of_the_request(do, no_index, commands):
    do(SessionStore(), "save")

    sent = dict(commands.sent)
    for name in ("listIndexes", "count", "createIndexes"):
        assert 0 < sent[name]["maxTimeMS"] <= 1000
    assert "commitQuorum" not in sent["createIndexes"]  # a server on its own refuses one


def test_they_share_the_second_and_the_circuit_breaker_does_not_learn_of_them(
    no_index_yet, monkeypatch
):
    now = [100.0]
    monkeypatch.setattr(indexes, "time", SimpleNamespace(monotonic=lambda: now[0]))
    steps = indexes.ensure_once()
    operations = [next(steps)]
    for seconds, reply in [(0.75, {}), (60, 0)]:
        now[0] += seconds
        operations.append(steps.send(reply))

    assert [operation.timeout for operation in operations] == [1.0, 0.25, 0.001]
    assert not any(operation.counts for operation in operations)


# Report and repair

TTL = {"expireAfterSeconds": 0}
STATES = {
    "ok": {NAME: ([("expires_at", 1)], TTL)},
    "missing": {},
    "wrong TTL": {NAME: ([("expires_at", 1)], {"expireAfterSeconds": 3600})},
    "not TTL": {NAME: ([("expires_at", 1)], {})},
    "wrong keys": {NAME: ([("created_at", 1)], {})},
    "unique": {NAME: ([("expires_at", 1)], TTL | {"unique": True})},
    "partial": {
        NAME: (
            [("expires_at", 1)],
            TTL | {"partialFilterExpression": {"user_id": {"$exists": True}}},
        )
    },
}


def create(given):
    for name, (keys, options) in given.items():
        collection().create_index(keys, name=name, **options)


def drive(verb):
    return run_on(SessionCollection(collection()), verb)


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_recognized(mongod_engine, state):
    create(STATES[state])

    [ours] = drive(indexes.report())

    assert (ours.name, ours.state) == (NAME, state)
    assert ours.is_wrong == (state != "ok")


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_corrected_and_no_session_is_changed(mongod_engine, state):
    store = SessionStore()
    store.save()
    create(STATES[state])

    done = drive(indexes.mend())

    assert bool(done) == (state != "ok")
    assert [found.state for found in drive(indexes.report())] == ["ok"]
    assert store.exists(store.session_key)
    assert drive(indexes.mend()) == []


@pytest.mark.parametrize("state", ["wrong TTL", "not TTL"])
def test_a_ttl_is_changed_in_place(mongod_engine, state):
    create(STATES[state])

    assert drive(indexes.mend()) == [f"changed {NAME} with collMod"]


@pytest.mark.parametrize("state", ["wrong TTL", "not TTL"])
@pytest.mark.parametrize("code", sorted(errors.UNCHANGEABLE))
def test_if_the_server_cannot_change_an_index_another_one_replaces_it(
    mongod_engine, commands, state, code
):
    create(STATES[state])
    verb = indexes.mend()
    verb.send(next(verb).call(collection()))
    assert "collMod" not in [name for name, _ in commands.sent]
    answer = verb.throw(OperationFailure("no expireAfterSeconds field to update", code))

    done = finish(verb, answer)

    assert done == [f"created {NAME}_2", f"dropped {NAME}"]
    names = [name for name, _ in commands.sent]
    assert names.index("createIndexes") < names.index("dropIndexes")
    [found] = drive(indexes.report())
    assert (found.name, found.state) == (f"{NAME}_2", "ok")


def test_the_servers_refusals_to_change_an_index_are_recognized(mongod_engine):
    collection().create_index([("expires_at", 1), ("user_id", 1)], name="compound")

    for refused in ({"collMod": "sessions", "index": TTL | {"name": "compound"}}, {"noSuch": 1}):
        with pytest.raises(OperationFailure) as error:
            collection().database.command(refused)
        assert error.value.code in errors.UNCHANGEABLE


def test_another_error_of_a_change_is_raised_and_nothing_is_built(mongod_engine):
    create(STATES["not TTL"])
    verb = indexes.mend()
    verb.send(next(verb).call(collection()))

    with pytest.raises(OperationFailure, match="stepped down"):
        verb.throw(OperationFailure("stepped down", 189))

    assert list(collection().index_information()) == ["_id_", NAME]


@pytest.mark.parametrize("name", ["theirs", f"{NAME}_old", f"{NAME}2"])
@pytest.mark.parametrize("options", [{}, {"expireAfterSeconds": 60}, TTL | {"unique": True}])
def test_a_foreign_index_on_our_field_is_left_and_ours_built_beside_it(
    mongod_engine, name, options
):
    collection().create_index([("expires_at", 1)], name=name, **options)
    theirs = collection().index_information()[name]
    assert [found.state for found in drive(indexes.report())] == ["missing", "foreign"]

    assert drive(indexes.mend()) == [f"created {NAME}"]

    assert [found.state for found in drive(indexes.report())] == ["ok", "foreign"]
    assert collection().index_information()[name] == theirs
    assert drive(indexes.mend()) == []


def test_leftovers_of_an_interrupted_correction_are_dropped(mongod_engine):
    create(STATES["not TTL"])
    collection().create_index([("expires_at", -1)], name=f"{NAME}_2", **TTL)
    assert [found.state for found in drive(indexes.report())] == ["ok", "not TTL"]

    assert drive(indexes.mend()) == [f"dropped {NAME}"]

    assert [found.state for found in drive(indexes.report())] == ["ok"]


def finish(verb, operation):
    """Drive a verb on from an operation that it has yielded."""

    def rest():
        nonlocal operation
        try:
            while True:
                try:
                    answer = yield operation
                except OperationFailure as error:
                    operation = verb.throw(error)
                else:
                    operation = verb.send(answer)
        except StopIteration as stop:
            return stop.value

    return drive(rest())


def overtake(verb):
    """Let another process mend the indexes after this one has looked; return what is next."""
    operation = verb.send(next(verb).call(collection()))
    drive(indexes.mend())
    return operation


@pytest.mark.parametrize("state", ["missing", "wrong TTL"])
def test_what_another_process_does_at_the_same_time_may_be_done_twice(mongod_engine, state):
    create(STATES[state])
    verb = indexes.mend()

    assert len(finish(verb, overtake(verb))) == 1

    assert [found.state for found in drive(indexes.report())] == ["ok"]


def test_an_index_that_another_process_has_dropped_is_found_done(mongod_engine):
    create(STATES["unique"])
    drive(indexes.ensure())
    collection().create_index([("expires_at", -1)], name=f"{NAME}_2", **TTL)
    verb = indexes.mend()

    assert finish(verb, overtake(verb)) == []


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("code", sorted(errors.OVERTAKEN))
def test_work_that_another_process_began_first_is_found_done(mongod_engine, code, times):
    verb = indexes.mend()
    operation = overtake(verb)
    for _ in range(times):
        operation = verb.throw(OperationFailure("the other was faster", code))

    assert finish(verb, operation) == []


@pytest.mark.parametrize("code", sorted(errors.OVERTAKEN))
def test_work_in_which_others_are_always_faster_fails(mongod_engine, code):
    verb = indexes.mend()
    next(verb)
    for _ in range(2):
        verb.throw(OperationFailure("the other was faster", code))

    with pytest.raises(OperationFailure, match="was faster"):
        verb.throw(OperationFailure("the other was faster", code))


def test_a_foreign_index_is_reported_and_left(mongod_engine):
    drive(indexes.mend())
    collection().create_index([("account_id", 1)], name="by_account")
    collection().create_index([("sid", 1)], name="sid_1", unique=True, sparse=True)

    drive(indexes.mend())

    ours, *others = drive(indexes.report())
    assert ours.state == "ok"
    assert [(found.name, found.state, found.is_wrong) for found in others] == [
        ("by_account", "foreign", False),
        ("sid_1", "foreign", False),
    ]
    assert "unique: it may reject sessions" in others[1].detail


def test_a_foreign_index_that_removes_sessions_says_when(mongod_engine):
    collection().create_index([("created_at", 1)], name="by_age", expireAfterSeconds=3600)

    _, theirs = drive(indexes.report())

    assert theirs.state == "foreign"
    assert theirs.detail == "on created_at: 1, removes sessions 3600 s after created_at"


def test_an_index_on_a_part_of_the_sessions_does_not_count(mongod_engine):
    partial = {"partialFilterExpression": {"user_id": {"$exists": True}}, "expireAfterSeconds": 0}
    collection().create_index([("expires_at", 1)], name="theirs", **partial)

    assert drive(indexes.report())[0].state == "missing"
    drive(indexes.mend())

    ours, theirs = drive(indexes.report())
    assert ours.state == "ok"
    assert (theirs.name, theirs.state) == ("theirs", "foreign")


# Privileges


def test_without_the_privilege_there_is_one_warning_that_names_it(limited, logged, monkeypatch):
    monkeypatch.setattr(indexes, "_ensured", set())
    store = SessionStore()
    store.save()
    SessionStore().save()

    assert store.exists(store.session_key)
    [record] = logged()
    assert record.getMessage().startswith("There is no TTL index")
    assert "lacks the privilege createIndex" in record.getMessage()
    assert "pw" not in record.getMessage()


def test_without_the_privilege_to_list_indexes_none_is_reported_missing(limited, allow, logged):
    limited.create_index(TTL_INDEX.keys, name=NAME, **TTL)
    allow(*ACTIONS - {"listIndexes"})

    drive(indexes.ensure())

    [record] = logged()
    assert record.getMessage().startswith("Cannot find out whether there is a TTL index")
    assert "lacks the privilege listIndexes" in record.getMessage()


@pytest.mark.parametrize(
    ("state", "privilege"), [("missing", "createIndex"), ("wrong TTL", "collMod")]
)
def test_correcting_without_the_privilege_raises_an_error_that_names_it(limited, state, privilege):
    for name, (keys, options) in STATES[state].items():
        limited.create_index(keys, name=name, **options)

    with pytest.raises(OperationFailure) as refused:
        drive(indexes.mend())

    assert errors.explain(refused.value) == f"the client's user lacks the privilege {privilege}"


@pytest.mark.parametrize(
    ("direction", "options"),
    [(-1, {}), (1, {"sparse": True}), (1, {"hidden": True}), (1, {"collation": {"locale": "de"}})],
)
def test_an_index_of_another_form_that_is_ok_removes_expired_sessions_too(
    guarded, direction, options
):
    sessions = guarded.sessions
    sessions.create_index([("expires_at", direction)], name=NAME, **TTL, **options)
    [index] = run_on(SessionCollection(sessions), indexes.report())
    assert index.state == "ok"

    sessions.insert_one({"expires_at": dates.utc_now() - timedelta(seconds=1)})

    while sessions.estimated_document_count():
        time.sleep(0.05)
    sessions.drop()


def test_another_error_is_not_taken_for_a_conflict(mongod_engine):
    verb = indexes.mend()
    next(verb)
    verb.send({})

    with pytest.raises(OperationFailure, match="disk"):
        verb.throw(OperationFailure("no space left on disk", 14031))
