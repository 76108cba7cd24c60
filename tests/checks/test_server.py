"""What `manage.py check --database` says of the server."""

import io

import mongomock
import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from pymongo import MongoClient

from django_mongo_sessions import checks
from django_mongo_sessions.storage.documents import TTL_INDEX
from tests.checks.helpers import SECRET, said
from tests.conftest import ACTIONS, collection


def test_the_server_is_not_checked_unless_a_database_is_named(no_connection):
    assert said() == {}


def test_a_correct_server_has_no_findings(mongod_engine):
    collection().create_index([("expires_at", 1)], expireAfterSeconds=0)

    assert said(databases=["default"]) == {}


def test_a_server_has_to_reply_within_the_clients_own_deadline(mongod_engine, settings, commands):
    options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "timeoutMS": 900}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}

    assert said(databases=["default"]) == {}

    assert commands.sent
    assert all(command["maxTimeMS"] <= 900 for _, command in commands.sent)


def test_a_wrong_index_is_named_with_the_command_that_corrects_it(mongod_engine):
    collection().create_index([("expires_at", 1)], name=TTL_INDEX.name, expireAfterSeconds=60)

    message = said(databases=["default"])["W011"]

    assert "is wrong: wrong TTL" in message.msg
    assert "mongosessions indexes --apply" in message.hint


def test_a_server_that_does_not_reply_is_reported_without_the_password(settings, soon_told):
    uri = f"mongodb://user:{SECRET}@127.0.0.1:1/site"
    settings.MONGO_SESSIONS = {"URI": uri, "TIMEOUT": 0.1}

    message = said(databases=["default"])["W010"]

    assert "127.0.0.1:1" in message.msg
    assert SECRET not in message.msg


@pytest.mark.parametrize("action", ["listIndexes", "find"])
def test_a_missing_privilege_is_named(limited, allow, action):
    limited.insert_one({})
    assert "W012" not in said(databases=["default"])
    allow(*ACTIONS - {action})

    assert f"lacks the privilege {action}" in said(databases=["default"])["W012"].msg


def test_a_user_who_cannot_sign_in_is_reported_without_the_password(limited, settings):
    uri = settings.MONGO_SESSIONS["URI"].replace(":pw@", f":{SECRET}@")
    settings.MONGO_SESSIONS = {"URI": uri}

    message = said(databases=["default"])["W012"]

    assert "Authentication failed" in message.msg
    assert SECRET not in message.msg


def test_a_shared_client_that_cannot_be_used_is_an_error(settings):
    settings.MONGO_SESSIONS = {"CLIENT": dict}

    assert "returned a dict" in said(databases=["default"])["E008"].msg


@pytest.mark.parametrize("database", [None, "site"])
def test_a_shared_client_should_name_a_database_too(settings, soon_told, database):
    with MongoClient("mongodb://127.0.0.1:1") as client:
        settings.MONGO_SESSIONS = {"CLIENT": lambda: client, "DATABASE": database, "TIMEOUT": 0.1}
        assert said() == {}

        unnamed = [] if database else ["W003"]
        assert list(said(databases=["default"])) == [*unnamed, "W010"]


@pytest.mark.django_db
def test_the_first_migrate_does_not_report_the_index_that_it_is_about_to_create(mongod_engine):
    collection().drop()
    output = io.StringIO()

    call_command("migrate", skip_checks=False, stdout=output, stderr=output)

    assert "mongo_sessions" not in output.getvalue()
    assert TTL_INDEX.name in collection().index_information()


def test_a_missing_index_is_reported_if_there_are_sessions(mongod_engine):
    collection().insert_one({})

    assert "missing" in said(databases=["default"])["W011"].msg


def test_a_server_that_is_too_old_is_an_error(mongod_engine, monkeypatch):
    monkeypatch.setattr(checks.server, "OLDEST_SERVER", [99, 0])

    assert "the oldest supported version is" in said(databases=["default"])["E006"].msg


@pytest.mark.django_db
def test_a_server_that_reports_an_old_version_can_be_migrated(mongod_engine, settings, monkeypatch):
    monkeypatch.setattr(checks.server, "OLDEST_SERVER", [99, 0])
    with pytest.raises(SystemCheckError, match="E006"):
        call_command("migrate", skip_checks=False, verbosity=0)

    settings.SILENCED_SYSTEM_CHECKS = ["mongo_sessions.E006"]
    call_command("migrate", skip_checks=False, verbosity=0)

    assert TTL_INDEX.name in collection().index_information()


@pytest.mark.parametrize("given", [{"URI": "mongomock://"}, {"CLIENT": mongomock.MongoClient}])
def test_mongomock_is_not_checked(settings, given):
    settings.MONGO_SESSIONS = given
    settings.DEBUG = True

    assert said(databases=["default"]) == {}
