"""What the app adds: the indexes, created by `migrate`."""

import io
import logging

import pytest
from django.core.management import call_command
from pymongo.errors import AutoReconnect

from django_mongo_sessions.apps import create_indexes
from django_mongo_sessions.connection import clients
from django_mongo_sessions.storage.documents import TTL_INDEX, USER_INDEX
from tests.conftest import collection


@pytest.mark.django_db
def test_migrate_creates_the_indexes(mongod_engine):
    call_command("migrate", verbosity=0)

    assert {TTL_INDEX.name, USER_INDEX.name} < set(collection().index_information())


@pytest.mark.django_db
def test_migrate_says_which_indexes_it_has_created(mongod_engine):
    def told(verbosity):
        output = io.StringIO()
        call_command("migrate", verbosity=verbosity, stdout=output)
        return [line for line in output.getvalue().splitlines() if "index" in line]

    assert told(1) == [
        f"Created the index {index.name} on the collection 'sessions'."
        for index in (TTL_INDEX, USER_INDEX)
    ]
    assert told(1) == []
    collection().drop_index(USER_INDEX.name)
    assert told(0) == []
    assert USER_INDEX.name in collection().index_information()


@pytest.mark.django_db
def test_migrate_creates_them_on_a_large_collection_too(mongod_engine, monkeypatch):
    monkeypatch.setattr("django_mongo_sessions.mongo.indexes._MAX_DOCUMENTS", 0)
    collection().insert_one({"_id": 1})

    call_command("migrate", verbosity=0)

    assert {TTL_INDEX.name, USER_INDEX.name} < set(collection().index_information())


def test_the_flush_between_tests_sends_no_command(mongod_engine, commands):

    create_indexes(using="default")

    assert commands.sent == []


def test_the_migration_of_another_database_sends_no_command(mongod_engine, commands):

    create_indexes(using="other", plan=[])

    assert commands.sent == []


@pytest.mark.django_db
def test_an_outage_is_a_warning_and_does_not_stop_the_migration(settings, soon_told, logged):
    uri = "mongodb://127.0.0.1:1/site"
    settings.MONGO_SESSIONS = {"URI": uri, "TIMEOUT": 0.1}

    call_command("migrate", verbosity=0)

    [record] = logged()
    assert "127.0.0.1:1" in record.getMessage()
    assert "remove them. Run `manage.py mongosessions indexes --apply`;" in record.getMessage()
    clients.reset()


@pytest.mark.django_db
def test_migrate_and_its_checks_wait_for_a_server_once(settings, caplog):
    settings.MONGO_SESSIONS = {"URI": "mongodb://127.0.0.1:1/site", "TIMEOUT": 0.1}
    caplog.set_level(logging.DEBUG, "pymongo.serverSelection")

    call_command("migrate", verbosity=0, skip_checks=False)

    messages = [record.getMessage() for record in caplog.records]
    assert sum("Server selection failed" in message for message in messages) == 1
    assert any("TTL index" in message for message in messages)
    clients.reset()


@pytest.mark.django_db
def test_an_outage_that_a_callable_for_a_client_meets_does_not_stop_the_migration(settings, logged):
    def connects():
        raise AutoReconnect("db1:27017: refused")

    settings.MONGO_SESSIONS = {"CLIENT": connects}

    call_command("migrate", verbosity=0)

    [record] = logged()
    assert "'sessions' were not created: db1:27017: refused. Run" in record.getMessage()


def test_an_index_in_the_way_is_left_and_a_warning_logged(mongod_engine, logged):
    collection().create_index([("expires_at", 1)], name=TTL_INDEX.name)

    create_indexes(using="default", plan=[])

    [record] = logged()
    assert "is in the way: not TTL" in record.getMessage()
