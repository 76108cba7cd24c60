"""The numbers of `manage.py mongosessions status`."""

import contextlib
import functools
import json
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients, errors
from django_mongo_sessions.mongo import status
from django_mongo_sessions.storage import dates, documents
from tests.conftest import ACTIONS, collection


def save(**data):
    store = SessionStore()
    store.update(data)
    store.save()
    return store


@pytest.fixture
def sessions(mongod_engine):
    """Two live sessions, of which one is signed in, and one that has expired."""
    save(a=1)
    save(**{SESSION_KEY: "7"})
    gone = documents.document_id(save(a=1).session_key)
    past = dates.utc_now() - timedelta(days=1)
    collection().update_one({"_id": gone}, {"$set": {"expires_at": past}})
    return collection()


def test_every_session_is_counted_if_there_are_few(sessions):
    found = status.status(sessions)["sessions"]

    assert found["exact"]
    assert (found["live"], found["expired"]) == (2, 1)
    assert (found["signed_in"], found["anonymous"]) == (1, 1)
    assert found["oldest"] <= found["newest"] <= dates.utc_now()
    assert 0 < found["average_bytes"] <= found["largest_bytes"]


def test_many_sessions_are_estimated_from_a_sample(sessions, monkeypatch):
    monkeypatch.setattr(status, "SAMPLE", 2)

    found = status.status(sessions)["sessions"]

    assert not found["exact"]
    assert set(found["estimates"]) == set(found) - {"exact", "estimates"}
    # 2 of 3 were read, and represent all of them.
    assert (found["live"], found["expired"]) in [(3, 0), (2, 2)]


def test_many_sessions_are_counted_with_exact(sessions, monkeypatch):
    monkeypatch.setattr(status, "SAMPLE", 2)

    found = status.status(sessions, exact=True)["sessions"]

    assert found["exact"]
    assert found["estimates"] == []
    assert found["live"] == 2


def test_estimates_read_a_sample_and_no_more(sessions, monkeypatch, commands):
    monkeypatch.setattr(status, "SAMPLE", 2)

    status.status(collection())

    pipelines = [command["pipeline"] for name, command in commands.sent if name == "aggregate"]
    assert all(("$collStats" in first or "$sample" in first) for first, *_ in pipelines)


@pytest.fixture
def little_memory(guarded):
    """A server that sorts 1 MB in memory, and on the disk only what may go there."""
    parameters = {
        "allowDiskUseByDefault": False,  # as it was before MongoDB 6.0
        "internalQueryMaxBlockingSortMemoryUsageBytes": 1_000_000,
    }
    admin = guarded.client.admin
    before = {}
    for name, value in parameters.items():
        with contextlib.suppress(OperationFailure):  # where the server is so old
            before[name] = admin.command("setParameter", **{name: value})["was"]
    yield guarded.sessions
    for name, value in before.items():
        admin.command("setParameter", **{name: value})


def test_a_sample_that_does_not_fit_into_memory_uses_the_disk(little_memory, limited, monkeypatch):
    monkeypatch.setattr(status, "SAMPLE", 150)
    limited.insert_many({"payload": bytes(10_000)} for _ in range(200))
    with pytest.raises(OperationFailure, match="memory"):
        list(limited.aggregate([{"$sample": {"size": 150}}]))

    assert status.status(collection())["sessions"]["average_bytes"] > 10_000


def test_a_collection_that_does_not_exist_yet_has_no_sessions(mongod_engine):
    collection().drop()

    found = status.status(collection())

    assert found["sessions"]["live"] == 0
    assert found["storage"]["documents"] == 0
    assert found["indexes"] == [
        {"name": "mongo_sessions_expires_at", "state": "missing", "detail": ""},
        {"name": "mongo_sessions_user_id", "state": "missing", "detail": ""},
    ]


def test_the_server_and_the_collection_are_named(sessions, mongod_engine):
    found = status.status(sessions)

    assert found["server"]["version"].split(".")[0].isdigit()
    assert found["server"]["addresses"]
    assert not found["server"]["sharded"]
    assert found["collection"] == "sessions"
    assert found["database"] == sessions.database.name
    assert found["storage"]["documents"] == 3
    assert found["storage"]["data_bytes"] > 0
    assert found["storage"]["index_bytes"] > 0


def test_settings_are_shown_as_they_take_effect_without_the_password(
    sessions, settings, mongod_engine
):
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "URI": mongod_engine + ("&" if "?" in mongod_engine else "/?") + "timeoutMS=9000&w=1",
        "CLIENT_OPTIONS": {"tlsCertificateKeyFilePassword": None, "maxPoolSize": 7},
    }

    shown = status.status(collection())["settings"]

    assert shown["TIMEOUT"] == 9
    assert shown["write concern"] == {"w": 1}
    assert shown["CLIENT_OPTIONS"]["tlsCertificateKeyFilePassword"] == "***"
    assert shown["CLIENT_OPTIONS"]["maxPoolSize"] == 7
    clients.reset()


class Factory:
    """A value of a project's own that has no known text."""

    def __repr__(self):
        return "Factory(password='S3CRET')"

    __call__ = MongoClient


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        (None, None),
        ("site.mongo.client", "site.mongo.client"),
        (save, "tests.mongo.test_status.save"),
        (Factory(), "a tests.mongo.test_status.Factory"),
        (functools.partial(MongoClient, password="S3CRET"), "a functools.partial"),
    ],
)
def test_a_shared_client_is_shown_by_its_name(mongod_engine, settings, client, shown):
    settings.MONGO_SESSIONS = {"CLIENT": client}

    with MongoClient(mongod_engine) as ours:
        assert status.status(ours.none.sessions)["settings"]["CLIENT"] == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, None),
        ("site.addresses.client", "site.addresses.client"),
        (save, "tests.mongo.test_status.save"),
        (Factory(), "a tests.mongo.test_status.Factory"),
    ],
)
@pytest.mark.parametrize("key", ["ADDRESS_FROM", "MAX_SESSIONS"])
def test_a_callable_is_shown_by_its_name(sessions, settings, key, given, shown):
    settings.MONGO_SESSIONS[key] = given

    assert status.status(sessions)["settings"][key] == shown


def test_a_number_is_shown_as_it_is(sessions, settings):
    settings.MONGO_SESSIONS["MAX_SESSIONS"] = 3

    assert status.status(sessions)["settings"]["MAX_SESSIONS"] == 3


def test_the_database_that_takes_effect_is_shown(mongod_engine, settings):
    settings.MONGO_SESSIONS = {"URI": mongod_engine}

    assert status.status(collection())["settings"]["DATABASE"] == collection().database.name
    clients.reset()


def test_settings_that_a_shared_client_leaves_unused_are_marked(mongod_engine, settings):
    settings.MONGO_SESSIONS = {
        "CLIENT": "site.mongo.client",
        "URI": mongod_engine,
        "CLIENT_OPTIONS": {"maxPoolSize": 7},
    }

    with MongoClient(mongod_engine) as ours:
        shown = status.status(ours.none.sessions)["settings"]

    assert shown["URI"] == shown["CLIENT_OPTIONS"] == "not used, because of CLIENT"


def test_a_uri_that_an_alias_leaves_unused_is_marked(mongod_engine, settings, alias):
    settings.MONGO_SESSIONS = {"DATABASE_ALIAS": alias(), "URI": mongod_engine}

    with MongoClient(mongod_engine) as ours:
        shown = status.status(ours.none.sessions)["settings"]

    assert shown["URI"] == "not used, because of DATABASE_ALIAS"


def test_everything_but_dates_is_json(sessions):
    assert json.dumps(status.status(sessions), default=str)


def test_a_user_who_can_only_read_the_collection_sees_everything(limited):
    assert status.status(collection())["storage"]["documents"] == 0
    save(a=1)

    assert status.status(collection())["sessions"]["live"] == 1


@pytest.mark.parametrize("action", ["find", "collStats", "listIndexes"])
def test_a_missing_privilege_can_be_named(limited, allow, action):
    save(a=1)
    allow(*ACTIONS - {action})

    with pytest.raises(OperationFailure) as refused:
        status.status(collection())

    assert errors.explain(refused.value) == f"the client's user lacks the privilege {action}"


def test_a_view_instead_of_a_collection_is_an_error(mongod_engine, settings):
    database = collection().database
    database.drop_collection("a_view")
    database.create_collection("a_view", viewOn="sessions", pipeline=[])

    with pytest.raises(OperationFailure, match="view"):
        status.status(database.a_view)

    database.drop_collection("a_view")


def test_what_has_become_of_an_old_engines_sessions_is_counted(sessions, settings):
    until = (dates.utc_now() + timedelta(days=30)).date()
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "PREDECESSOR": "tests.engine.old.rows",
        "PREDECESSOR_UNTIL": until,
    }
    keys = [save(a=1).session_key for _ in range(3)]
    for days, key in zip((0, 2), keys, strict=False):
        wanted = {"_id": documents.document_id(key)}
        then = dates.utc_now() - timedelta(days=days)
        collection().update_one(wanted, {"$set": {"adopted": then}})
    SessionStore().delete("0123456789abcdefghijklmnopqrstuv")
    collection().insert_one(documents.marker(b"id", b"write", dates.utc_now()))

    found = status.status(collection())

    counted = found["sessions"]
    assert (counted["adopted"], counted["adopted_lately"], counted["tombstones"]) == (2, 1, 1)
    assert (counted["live"], counted["expired"]) == (5, 2)  # a marker counts as expired
    assert found["predecessor"] == {
        "engine": "tests.engine.old.rows",
        "keeps": False,
        "days_left": 30,
    }
    collection().delete_many({})
    assert status.status(collection())["sessions"]["tombstones"] == 0
