"""The indexes: the TTL index after a process's first insert, and both by migrate and command."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import OperationFailure

from django_mongo_sessions.apps import create_indexes
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import errors
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.mongo import indexes, operations
from django_mongo_sessions.mongo.runner import run_on
from django_mongo_sessions.storage import dates, documents
from django_mongo_sessions.storage.documents import TTL_INDEX, USER_INDEX
from tests.conftest import ACTIONS, collection

NAME = TTL_INDEX.name
USERS = USER_INDEX.name


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


def test_an_insert_does_not_create_the_index_of_users(do, no_index):
    do(SessionStore(), "save")

    assert USERS not in collection().index_information()


@pytest.mark.only("mongod")
def test_a_sign_out_in_between_leaves_the_index_to_a_later_insert(do, no_index, monkeypatch):
    session, ask = SessionStore(), operations.index_information

    def flushed():
        session.flush()
        return ask()

    with monkeypatch.context() as patched:
        patched.setattr(operations, "index_information", flushed)
        with pytest.raises(UpdateError):
            do(session, "save")
    do(SessionStore(), "save")

    assert NAME in collection().index_information()


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


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_app_is_recommended_only_if_it_is_missing(
    mongod_engine, no_index_yet, settings, logged, is_installed
):
    settings.INSTALLED_APPS = ["django_mongo_sessions"] if is_installed else []
    collection().create_index([("expires_at", 1)], name=NAME)

    SessionStore().save()

    [record] = [record for record in logged() if record.levelno == logging.WARNING]
    assert ("Add 'django_mongo_sessions' to INST" in record.getMessage()) == (not is_installed)
    assert "un `manage.py mongosessions indexes --apply`" in record.getMessage()


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
PARTIAL = USER_INDEX.options
STATES = {
    "ok": {NAME: ([("expires_at", 1)], TTL)},
    "missing": {},
    "wrong TTL": {NAME: ([("expires_at", 1)], {"expireAfterSeconds": 3600})},
    "not TTL": {NAME: ([("expires_at", 1)], {})},
    "wrong keys": {NAME: ([("created_at", 1)], {})},
    "unique": {NAME: ([("expires_at", 1)], TTL | {"unique": True})},
    "partial": {NAME: ([("expires_at", 1)], TTL | PARTIAL)},
}
STATES_OF_USERS = {
    "ok": {USERS: ([("user_id", 1)], PARTIAL)},
    "missing": {},
    "wrong keys": {USERS: ([("user_id", 1), ("seen_at", 1)], PARTIAL)},
    "partial": {
        USERS: (
            [("user_id", 1)],
            {"partialFilterExpression": {"user_id": {"$exists": True}, "revision": {"$gt": 0}}},
        )
    },
    "unique": {USERS: ([("user_id", 1)], PARTIAL | {"unique": True})},
    "hidden": {USERS: ([("user_id", 1)], PARTIAL | {"hidden": True})},
    "collation": {USERS: ([("user_id", 1)], PARTIAL | {"collation": {"locale": "de"}})},
}
BOTH = [
    (wanted, state, given)
    for wanted, states in ((TTL_INDEX, STATES), (USER_INDEX, STATES_OF_USERS))
    for state, given in states.items()
]


def create(given):
    for name, (keys, options) in given.items():
        collection().create_index(keys, name=name, **options)


def drive(verb):
    return run_on(SessionCollection(collection()), verb)


def report(wanted=TTL_INDEX):
    """Return what there is of one of our indexes, then foreign ones."""
    return [found for found in drive(indexes.report()) if found.serves in (wanted, None)]


def states(wanted=TTL_INDEX):
    return [found.state for found in report(wanted)]


@pytest.fixture
def user_index(mongod_engine):
    """The engine on an empty collection, where only the TTL index is missing."""
    create(STATES_OF_USERS["ok"])


@pytest.fixture
def ttl_index(mongod_engine):
    """The engine on an empty collection, where only the index of users is missing."""
    create(STATES["ok"])


@pytest.mark.parametrize(("wanted", "state", "given"), BOTH)
def test_each_state_is_recognized(mongod_engine, wanted, state, given):
    create(given)

    [ours] = report(wanted)

    assert (ours.name, ours.state) == (wanted.name, state)
    assert ours.is_wrong == (state != "ok")


@pytest.mark.parametrize(("wanted", "state", "given"), BOTH)
def test_each_state_is_corrected_and_no_session_is_changed(mongod_engine, wanted, state, given):
    store = SessionStore()
    store["_auth_user_id"] = "7"
    store.save()
    create(given)

    done = drive(indexes.mend())

    assert any(wanted.name in action for action in done) == (state != "ok")
    assert states(TTL_INDEX) == states(USER_INDEX) == ["ok"]
    assert store.exists(store.session_key)
    assert drive(indexes.mend()) == []


@pytest.mark.parametrize("state", ["wrong TTL", "not TTL"])
def test_a_ttl_is_changed_in_place(user_index, state):
    create(STATES[state])

    assert drive(indexes.mend()) == [f"changed {NAME} with collMod"]


@pytest.mark.parametrize("state", ["wrong TTL", "not TTL"])
@pytest.mark.parametrize("code", sorted(errors.UNCHANGEABLE))
def test_if_the_server_cannot_change_an_index_another_one_replaces_it(
    user_index, commands, state, code
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
    [found] = report()
    assert (found.name, found.state) == (f"{NAME}_2", "ok")


def test_the_servers_refusals_to_change_an_index_are_recognized(mongod_engine):
    collection().create_index([("expires_at", 1), ("user_id", 1)], name="compound")

    for refused in ({"collMod": "sessions", "index": TTL | {"name": "compound"}}, {"noSuch": 1}):
        with pytest.raises(OperationFailure) as error:
            collection().database.command(refused)
        assert error.value.code in errors.UNCHANGEABLE


def test_another_error_of_a_change_is_raised_and_nothing_is_built(user_index):
    create(STATES["not TTL"])
    verb = indexes.mend()
    verb.send(next(verb).call(collection()))

    with pytest.raises(OperationFailure, match="stepped down"):
        verb.throw(OperationFailure("stepped down", 189))

    assert set(collection().index_information()) == {"_id_", NAME, USERS}


@pytest.mark.parametrize("name", ["theirs", f"{NAME}_old", f"{NAME}2"])
@pytest.mark.parametrize("options", [{}, {"expireAfterSeconds": 60}, TTL | {"unique": True}])
def test_a_foreign_index_on_our_field_is_left_and_ours_built_beside_it(user_index, name, options):
    collection().create_index([("expires_at", 1)], name=name, **options)
    theirs = collection().index_information()[name]
    assert states() == ["missing", "foreign"]

    assert drive(indexes.mend()) == [f"created {NAME}"]

    assert states() == ["ok", "foreign"]
    assert collection().index_information()[name] == theirs
    assert drive(indexes.mend()) == []


def test_leftovers_of_an_interrupted_correction_are_dropped(user_index):
    create(STATES["not TTL"])
    collection().create_index([("expires_at", -1)], name=f"{NAME}_2", **TTL)
    assert states() == ["ok", "not TTL"]

    assert drive(indexes.mend()) == [f"dropped {NAME}"]

    assert states() == ["ok"]


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
def test_what_another_process_does_at_the_same_time_may_be_done_twice(user_index, state):
    create(STATES[state])
    verb = indexes.mend()

    assert len(finish(verb, overtake(verb))) == 1

    assert states() == ["ok"]


def test_an_index_that_another_process_has_dropped_is_found_done(user_index):
    create(STATES["unique"])
    drive(indexes.ensure())
    collection().create_index([("expires_at", -1)], name=f"{NAME}_2", **TTL)
    verb = indexes.mend()

    assert finish(verb, overtake(verb)) == []


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("code", sorted(errors.OVERTAKEN))
def test_work_that_another_process_began_first_is_found_done(user_index, code, times):
    verb = indexes.mend()
    operation = overtake(verb)
    for _ in range(times):
        operation = verb.throw(OperationFailure("the other was faster", code))

    assert finish(verb, operation) == []


@pytest.mark.parametrize("code", sorted(errors.OVERTAKEN))
def test_work_in_which_others_are_always_faster_fails(user_index, code):
    verb = indexes.mend()
    next(verb)
    for _ in range(2):
        verb.throw(OperationFailure("the other was faster", code))

    with pytest.raises(OperationFailure, match="was faster"):
        verb.throw(OperationFailure("the other was faster", code))


def test_a_foreign_index_is_reported_and_left(user_index):
    drive(indexes.mend())
    collection().create_index([("account_id", 1)], name="by_account")
    collection().create_index([("sid", 1)], name="sid_1", unique=True, sparse=True)

    drive(indexes.mend())

    ours, *others = report()
    assert ours.state == "ok"
    assert [(found.name, found.state, found.is_wrong) for found in others] == [
        ("by_account", "foreign", False),
        ("sid_1", "foreign", False),
    ]
    assert "unique: it may reject sessions" in others[1].detail


def test_a_foreign_index_that_removes_sessions_says_when(user_index):
    collection().create_index([("created_at", 1)], name="by_age", expireAfterSeconds=3600)

    _, theirs = report()

    assert theirs.state == "foreign"
    assert theirs.detail == "on created_at: 1, removes sessions 3600 s after created_at"


def test_an_index_on_a_part_of_the_sessions_does_not_count(user_index):
    partial = {"partialFilterExpression": {"user_id": {"$exists": True}}, "expireAfterSeconds": 0}
    collection().create_index([("expires_at", 1)], name="theirs", **partial)

    assert report()[0].state == "missing"
    drive(indexes.mend())

    ours, theirs = report()
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
    found = run_on(SessionCollection(sessions), indexes.report())
    assert found[0] == (NAME, "ok", "", TTL_INDEX)

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


# The index of users


def plan(command):
    """Return the stages by which the server would answer a command."""
    database = collection().database
    explained = database.command("explain", command, verbosity="queryPlanner")
    found, stages = [explained["queryPlanner"]["winningPlan"]], []
    while found:
        stage = found.pop()
        stage = stage.get("queryPlan", stage)
        stages.append(stage["stage"])
        found += [stage["inputStage"]] if "inputStage" in stage else []
    return stages


def uses_index():
    """Return whether the server finds the sessions of a user, and who is signed in, by an index."""
    find = {"find": "sessions", "filter": documents.of_user("7")}
    distinct = {"distinct": "sessions", "key": "user_id", "query": documents.SIGNED_IN}
    plans = [plan(command) for command in (find, distinct)]
    scans = ["COLLSCAN" in stages for stages in plans]
    assert scans[0] == scans[1]
    return not scans[0]


FORMS_OF_USERS = [
    (1, PARTIAL, True),
    (-1, PARTIAL, True),
    (1, {}, True),
    (1, {"sparse": True}, True),
    (1, PARTIAL | {"collation": {"locale": "simple"}}, True),
    (1, PARTIAL | {"hidden": True}, False),
    (1, PARTIAL | {"collation": {"locale": "de"}}, False),
]


@pytest.mark.parametrize(("direction", "options", "serves"), FORMS_OF_USERS)
def test_an_index_of_users_is_ok_if_queries_use_it(ttl_index, direction, options, serves):
    collection().create_index([("user_id", direction)], name="theirs", **options)

    found = {found.name: found.state for found in drive(indexes.report())}

    assert (found["theirs"] == "ok") == serves
    assert uses_index() == serves


@pytest.mark.parametrize("collation", [{"locale": "de"}, {"locale": "de", "strength": 1}])
def test_a_collection_with_a_collation_of_its_own_needs_no_other(mongod_engine, collation):
    sessions = collection()
    sessions.drop()
    sessions.database.create_collection("sessions", collation=collation)
    try:
        assert drive(indexes.mend()) == [f"created {NAME}", f"created {USERS}"]

        assert states(TTL_INDEX) == states(USER_INDEX) == ["ok"]
        assert uses_index()
    finally:
        sessions.drop()


def test_an_index_of_users_by_another_name_is_enough(ttl_index):
    collection().create_index([("user_id", 1)], name="theirs")

    assert drive(indexes.mend()) == []

    assert USERS not in collection().index_information()


@pytest.mark.parametrize("name", ["theirs", f"{USERS}_old", f"{USERS}2"])
@pytest.mark.parametrize("state", ["partial", "unique", "hidden", "collation"])
def test_a_foreign_index_of_users_that_does_not_serve_is_left(ttl_index, name, state):
    keys, options = STATES_OF_USERS[state][USERS]
    collection().create_index(keys, name=name, **options)
    theirs = collection().index_information()[name]
    assert states(USER_INDEX) == ["missing", "foreign"]

    assert drive(indexes.mend()) == [f"created {USERS}"]

    assert states(USER_INDEX) == ["ok", "foreign"]
    assert uses_index()
    assert collection().index_information()[name] == theirs
    assert drive(indexes.mend()) == []


@pytest.mark.parametrize(
    ("keys", "options"), [([("user_id", 1)], {"sparse": True}), ([("expires_at", -1)], TTL)]
)
def test_a_second_index_that_serves_as_well_is_left(mongod_engine, keys, options):
    drive(indexes.mend())
    collection().create_index(keys, name="theirs", **options)

    assert drive(indexes.mend()) == []

    assert sorted(found.state for found in drive(indexes.report())) == ["ok", "ok", "ok"]


def test_leftovers_of_an_interrupted_correction_of_it_are_dropped(ttl_index):
    create(STATES_OF_USERS["hidden"])
    collection().create_index([("user_id", -1)], name=f"{USERS}_2", **PARTIAL)
    assert states(USER_INDEX) == ["ok", "hidden"]

    assert drive(indexes.mend()) == [f"dropped {USERS}"]

    assert states(USER_INDEX) == ["ok"]


def test_an_index_under_the_name_of_the_other_is_corrected(mongod_engine):
    collection().create_index([("user_id", 1)], name=NAME)
    collection().create_index([("expires_at", 1)], name=USERS, **TTL)

    drive(indexes.mend())

    assert states(TTL_INDEX) == states(USER_INDEX) == ["ok"]
    assert drive(indexes.mend()) == []


@pytest.mark.parametrize("state", ["missing", "hidden", "unique"])
def test_of_two_processes_that_correct_it_at_once_each_succeeds(ttl_index, state):
    create(STATES_OF_USERS[state])
    verb = indexes.mend()

    finish(verb, overtake(verb))

    assert states(USER_INDEX) == ["ok"]


@pytest.mark.parametrize("state", sorted(STATES_OF_USERS))
def test_threads_that_correct_everything_at_once_succeed(mongod_engine, state):
    create(STATES_OF_USERS[state])
    start = threading.Barrier(4)

    def work():
        start.wait()
        create_indexes(plan=[])
        return drive(indexes.mend())

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()

    assert states(TTL_INDEX)[0] == states(USER_INDEX)[0] == "ok"
    drive(indexes.mend())
    assert states(TTL_INDEX) == states(USER_INDEX) == ["ok"]


# With `migrate`


def test_migrate_creates_what_is_missing(mongod_engine, logged):
    create_indexes(plan=[])

    assert states(TTL_INDEX) == states(USER_INDEX) == ["ok"]
    assert not logged()


def test_migrate_leaves_alone_what_there_is(ttl_index, commands, logged):
    create(STATES_OF_USERS["ok"])
    commands.names()

    create_indexes(plan=[])

    assert commands.names() == ["listIndexes", "listIndexes"]
    assert not logged()


def test_an_index_of_users_that_is_in_the_way_is_one_warning(ttl_index, logged):
    create(STATES_OF_USERS["hidden"])

    create_indexes(plan=[])

    [record] = logged()
    assert f"{USERS} is in the way: hidden, no query uses it" in record.getMessage()
    assert "mongosessions indexes --apply" in record.getMessage()


def test_without_the_privilege_to_create_them_there_is_a_warning_for_each(limited, logged):
    create_indexes(plan=[])

    ttl, users = logged()
    assert ttl.getMessage().startswith("There is no TTL index")
    assert users.getMessage().startswith("There is no index on the users")
    for record in (ttl, users):
        assert "lacks the privilege createIndex" in record.getMessage()


def test_without_the_privilege_to_list_them_there_is_one_warning(limited, allow, logged):
    limited.insert_one({})
    allow(*ACTIONS - {"listIndexes"})

    create_indexes(plan=[])

    [record] = logged()
    assert "lacks the privilege listIndexes" in record.getMessage()


def test_correcting_it_without_the_privilege_raises_an_error_that_names_it(limited):
    limited.create_index([("expires_at", 1)], name=NAME, **TTL)

    with pytest.raises(OperationFailure) as refused:
        drive(indexes.mend())

    assert errors.explain(refused.value) == "the client's user lacks the privilege createIndex"


def test_in_a_collection_without_documents_no_index_is_missing(mongod_engine):
    assert drive(indexes.wrong()) == []
    create(STATES_OF_USERS["hidden"])
    assert [found.state for found in drive(indexes.wrong())] == ["hidden"]

    collection().insert_one({})

    assert [(found.name, found.state) for found in drive(indexes.wrong())] == [
        (USERS, "hidden"),
        (NAME, "missing"),
    ]
