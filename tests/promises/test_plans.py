"""How the server finds the sessions of a user: by the index, and without reading others."""

import secrets
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY
from pymongo import MongoClient

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import signed_in
from django_mongo_sessions.mongo import bulk, indexes, operations
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.storage import dates
from django_mongo_sessions.storage.documents import TTL_INDEX, USER_INDEX
from tests.conftest import DATABASE, SESSIONS, Commands, collection

STORED = 4_000
SIGNED_IN = STORED // 4
EACH = 4  # sessions of a user
USERS = SIGNED_IN // EACH
USER = "42"
_BATCH = 10_000
# What the driver adds to a command, and `explain` does not take.
_ENVELOPE = {"$clusterTime", "$db", "$readPreference", "lsid", "maxTimeMS", "txnNumber"}
_ENVELOPE |= {"writeConcern"}


def fill(stored):
    """Store many sessions, of which a quarter are signed in."""
    session = SessionStore()
    session[SESSION_KEY] = "template"
    session.save()
    [template] = collection().find(SESSIONS)
    collection().delete_many({})
    moment = dates.utc_now()

    def document(number):
        made = {**template, "_id": b"\x01" + secrets.token_bytes(32)}
        made["created_at"] = made["seen_at"] = moment - timedelta(seconds=number)
        if number % 4:
            del made["user_id"]
        else:
            made["user_id"] = str(number // 4 // EACH)
        return made

    for begin in range(0, stored, _BATCH):
        numbers = range(begin, min(begin + _BATCH, stored))
        collection().insert_many([document(number) for number in numbers])


class Plan:
    """What the server says of how it runs a command."""

    def __init__(self, name, reply):
        self.name, self.stages, self.indexes = name, set(), set()
        self._executions = []
        self._read(reply)
        self.keys = self._executions[0]["totalKeysExamined"]
        self.documents = self._executions[0]["totalDocsExamined"]

    def _read(self, part):
        if isinstance(part, list):
            for each in part:
                self._read(each)
        elif isinstance(part, dict):
            if "stage" in part:
                self.stages.add(part["stage"])
            if "indexName" in part:
                self.indexes.add(part["indexName"])
            if "executionStats" in part:
                self._executions.append(part["executionStats"])
            for name, each in part.items():
                if name not in ("command", "rejectedPlans"):
                    self._read(each)


class Explaining(Commands):
    """Asks the server for the plan of each command, just before it is sent."""

    def __init__(self, client):
        super().__init__()
        self.plans = []
        self._database = client[DATABASE]

    def started(self, event):
        super().started(event)
        if event.command_name in ("find", "delete", "distinct", "aggregate"):
            command = {
                name: value for name, value in event.command.items() if name not in _ENVELOPE
            }
            reply = self._database.command("explain", command, verbosity="executionStats")
            self.plans.append(Plan(event.command_name, reply))


@pytest.fixture
def explaining(mongod_engine, settings):
    """What the engine sends, and how the server runs it."""
    with MongoClient(mongod_engine) as client:
        listener = Explaining(client)
        options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "event_listeners": [listener]}
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}
        fill(STORED)
        yield listener


@pytest.fixture
def plans(explaining):
    """`plans(call)` returns the plans of what a call sends, among many sessions."""
    run(indexes.mend())

    def plans(call):
        explaining.plans.clear()
        call()
        return explaining.plans

    return plans


def single(operation):
    return (yield operation)


def ids_of(user_id):
    return [document["_id"] for document in run(single(operations.find_of_user(user_id)))]


@pytest.mark.parametrize("ask", [users.list_sessions, users.count_sessions])
def test_a_users_sessions_are_found_without_reading_others(plans, ask):
    [plan] = plans(lambda: ask(USER))

    assert plan.name == "find"
    assert plan.indexes == {USER_INDEX.name}
    assert "COLLSCAN" not in plan.stages
    assert plan.documents == EACH
    assert plan.keys <= EACH + 1


def test_no_payload_is_sent(plans, explaining):
    explaining.sent.clear()

    plans(lambda: users.list_sessions(USER))

    [command] = [command for name, command in explaining.sent if name == "find"]
    assert "payload" not in command["projection"]
    assert all(command["projection"].values())


def test_so_are_those_that_end(plans):
    some = ids_of(USER)[1:]

    [plan] = plans(lambda: run(single(operations.delete_of_user(USER, some))))

    assert plan.name == "delete"
    assert plan.indexes <= {USER_INDEX.name, "_id_"}  # either does
    assert "COLLSCAN" not in plan.stages
    assert plan.documents <= EACH
    assert plan.keys <= 2 * EACH
    assert len(users.list_sessions(USER)) == 1


def test_a_limit_reads_the_users_sessions_and_the_one_that_ends(plans, settings):
    settings.MONGO_SESSIONS["MAX_SESSIONS"] = EACH
    session = SessionStore()
    session[SESSION_KEY] = USER

    find, delete = plans(session.save)

    assert find.indexes == {USER_INDEX.name}
    assert (find.documents, delete.documents) == (EACH + 1, 1)
    assert not {"COLLSCAN"} & (find.stages | delete.stages)


def test_who_is_signed_in_is_read_in_the_index_alone(plans):
    [plan] = plans(users.signed_in_user_ids)

    assert plan.name == "distinct"
    assert plan.indexes == {USER_INDEX.name}
    assert plan.documents == 0
    assert plan.keys <= USERS + 1


def test_so_is_how_often(plans):
    [plan] = plans(lambda: run(single(bulk.count_by_user())))

    assert plan.name == "aggregate"
    assert plan.indexes == {USER_INDEX.name}
    assert plan.documents == 0
    assert plan.keys <= SIGNED_IN + 1


def page_of(user_ids, skip=0, limit=100):
    """Return the sessions of a page of the admin, and how many there are on all pages."""
    found = run(signed_in.find_signed_in(user_ids, None, skip, limit))
    return found, run(signed_in.count_signed_in(user_ids, SIGNED_IN + 1))


def test_a_page_of_everybody_is_read_in_its_order_and_counted_in_the_index(plans):
    find, count = plans(lambda: page_of(None))

    assert find.indexes == {TTL_INDEX.name}
    assert not {"COLLSCAN", "SORT"} & find.stages
    assert find.documents <= 100 * 4 + 4  # a quarter is signed in
    assert count.indexes == {USER_INDEX.name}
    assert count.documents == 0
    assert count.keys <= SIGNED_IN + 1


def test_the_sessions_of_the_users_who_were_found_are_read_alone(plans):
    find, count = plans(lambda: page_of({"1", "42", "no such user"}))

    assert find.indexes == count.indexes == {USER_INDEX.name}
    assert "COLLSCAN" not in find.stages
    assert find.documents == 2 * EACH
    assert count.documents == 0


def test_pages_have_every_session_once_though_all_expire_at_one_moment(plans):
    pages = [page_of(None, skip, 300)[0] for skip in range(0, SIGNED_IN, 300)]

    found = [each.document_id for page in pages for each in page]

    assert len(found) == len(set(found)) == SIGNED_IN
    assert page_of(None)[1] == SIGNED_IN
    assert page_of(set()) == ([], 0)


def answers():
    """Return the answer to each question."""
    return (
        sorted(users.list_sessions(USER), key=lambda each: each.id),
        users.count_sessions("no such user"),
        users.signed_in_user_ids(),
        run(single(bulk.count_by_user())),
        {each.document_id for page in (0, 1) for each in page_of(None, 500 * page, 500)[0]},
    )


def test_without_the_index_the_answers_are_the_same(explaining):
    assert USER_INDEX.name not in collection().index_information()
    without = answers()
    assert any("COLLSCAN" in plan.stages for plan in explaining.plans)
    run(indexes.mend())

    assert answers() == without
    assert len(without[0]) == EACH
    assert len(without[2]) == USERS


def test_and_so_is_what_ends(explaining):
    assert users.revoke_all_sessions(USER) == EACH
    assert users.count_sessions(USER) == 0
    assert collection().count_documents(SESSIONS) == STORED - EACH
