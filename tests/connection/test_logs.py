"""PyMongo's log of commands, without the values of sessions."""

import json
import logging

import pytest
from pymongo import InsertOne, MongoClient, UpdateOne
from pymongo.errors import AutoReconnect, OperationFailure

from django_mongo_sessions.connection import logs
from tests.conftest import DATABASE

VALUE = "a value that nobody may see"


@pytest.fixture
def database(mongod_uri, caplog):
    """A database whose collection `sessions` is one of sessions, while PyMongo logs all it does."""
    logs.redact_commands(DATABASE, "sessions")
    logs.redact_commands(DATABASE, "sessions")
    caplog.set_level(logging.DEBUG, "pymongo")
    with MongoClient(mongod_uri) as client:
        client[DATABASE].drop_collection("sessions")
        client[DATABASE].create_collection("sessions")
        yield client[DATABASE]
        client[DATABASE].drop_collection("sessions")


def logged(caplog):
    """Return what PyMongo has logged of commands: their names, and the documents that are shown."""
    messages = [record.getMessage() for record in caplog.records if "command" in record.name]
    return [json.loads(message) for message in messages]


@pytest.mark.parametrize(
    "use",
    [
        lambda sessions: sessions.insert_one({"_id": b"1", "payload": b"", "account": VALUE}),
        lambda sessions: sessions.insert_one({"_id": b"2", "a": "x" * 2000, "account": VALUE}),
        lambda sessions: sessions.update_one({"_id": b"1"}, {"$set": {"account": VALUE}}),
        lambda sessions: sessions.bulk_write(
            [UpdateOne({"_id": bytes([n])}, [{"$set": {"account": VALUE}}]) for n in range(9)],
            ordered=False,
        ),
        lambda sessions: sessions.bulk_write(
            [InsertOne({"_id": bytes([n]), "account": VALUE}) for n in range(9, 15)], ordered=False
        ),
        lambda sessions: list(sessions.find({"_id": {"$in": [b"\3", b"\4"]}})),
        lambda sessions: sessions.replace_one({"_id": b"1"}, {"account": VALUE}),
        lambda sessions: list(sessions.find({"account": VALUE})),
        lambda sessions: list(sessions.find({"_id": {"$gt": b""}}, batch_size=1)),
        lambda sessions: sessions.delete_many({"account": VALUE}),
        lambda sessions: list(sessions.aggregate([{"$match": {"account": VALUE}}])),
        lambda sessions: sessions.distinct("account", {"account": VALUE}),
        lambda sessions: sessions.find_one_and_update({}, {"$set": {"account": VALUE}}),
        lambda sessions: sessions.count_documents({"account": VALUE}),
    ],
)
def test_no_value_is_shown(database, caplog, use):
    database.sessions.insert_many([{"_id": bytes([n]), "account": VALUE} for n in range(3, 6)])

    use(database.sessions)

    assert logged(caplog)
    assert VALUE not in str(logged(caplog))
    assert "(not shown)" in str(logged(caplog))


def test_a_document_that_the_server_refuses_is_not_quoted(database, caplog):
    database.sessions.create_index("account", unique=True)
    database.sessions.insert_one({"_id": b"1", "account": VALUE})
    database.command("collMod", "sessions", validator={"n": {"$type": "int"}})
    for document in ({"_id": b"2", "account": VALUE, "n": 1}, {"_id": b"3", "n": VALUE}):
        with pytest.raises(OperationFailure):
            database.sessions.insert_one(document)
    with pytest.raises(OperationFailure):
        database.sessions.update_one({"_id": b"1"}, {"$inc": {"account": 1}})

    assert VALUE not in str(logged(caplog))


def test_a_session_is_named_by_its_id(database, caplog):
    database.sessions.find_one({"_id": b"the id"})
    database.sessions.delete_one({"_id": b"the id", "revision": {"$ne": -1}})

    commands = [fields["command"] for fields in logged(caplog) if "command" in fields]
    assert [("dGhlIGlk" in command) for command in commands[-2:]] == [True, True]


def test_a_reply_shows_its_counts(database, caplog):
    database.sessions.insert_one({"_id": b"the id", "account": VALUE})

    reply = [fields["reply"] for fields in logged(caplog) if "reply" in fields][-1]
    assert json.loads(reply)["n"] == 1


@pytest.mark.parametrize("size", [1, 3_000])  # PyMongo cuts a long command, and writes it otherwise
def test_no_value_is_shown_if_the_collection_has_another_alphabet(database, caplog, size):
    logs.redact_commands(DATABASE, "sitzungen_für_alle")
    database.sitzungen_für_alle.insert_one({"account": VALUE, "more": "x" * size})
    database.sitzungen_für_alle.find_one({"account": VALUE})
    database.sitzungen_für_alle.drop()

    assert VALUE not in str(logged(caplog))
    assert "(not shown)" in str(logged(caplog))


@pytest.mark.parametrize("name", ["sessions_of_users", "my_sessions", "sessions2", "Sessions"])
def test_other_collections_are_shown(database, caplog, name):
    database[name].insert_one({"payload": VALUE})
    database[name].find_one()
    database[name].drop()

    assert str(logged(caplog)).count(VALUE) == 2


def test_the_collection_of_another_database_is_shown(database, caplog):
    other = database.client[f"{DATABASE}_other"]
    other.sessions.insert_one({"payload": VALUE})
    database.client.drop_database(other.name)

    assert VALUE in str(logged(caplog))


def test_an_error_that_did_not_come_from_the_server_is_shown():
    failure = json.dumps({"errmsg": "connection closed", "errtype": "AutoReconnect"})

    assert logs._shown_reply(failure) == failure


@pytest.mark.parametrize("reply", ["{cut sho", '{"cursor": {}, "ok": 1}'])
def test_a_reply_that_is_cut_short_or_unknown_is_not_shown(reply):
    assert "(not shown)" in logs._shown_reply(reply)


def test_commands_whose_reply_is_not_logged_are_forgotten():
    each = logs.CommandFilter()
    for number in range(1_100):
        each._remember(str(number))

    assert len(each._pending) == 1_000


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        '["a list"]',
        "7",
        '{"clientId": 1}',
        '{"clientId": 1, "requestId": 1, "message": "Command succeeded", "reply": "{}"}',
        '{"clientId": 1, "requestId": 1, "databaseName": "other", "command": "{\\"a\\": 1}"}',
        r'{"clientId": 1, "requestId": 1, "command": "{\"find\": \"no \\q escape\", "}',
    ],
)
def test_other_messages_are_left_alone(text):
    record = logging.LogRecord("pymongo.command", 10, __file__, 1, text, None, None)

    assert logs._filter.filter(record)

    assert record.getMessage() == text


def test_a_record_of_the_sites_own_that_names_no_request_object_passes():
    record = logging.LogRecord("django.request", 40, "", 1, "", None, (None, AutoReconnect(), None))
    record.request = "GET /cart/"

    assert all(logs.OncePerRequest().filter(record) for _ in range(2))
