"""What `manage.py check --database` says of the server, and of Django's table."""

import io
import os
import subprocess
import sys
from datetime import timedelta

import mongomock
import pytest
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from pymongo import MongoClient

from django_mongo_sessions import checks
from django_mongo_sessions.backends import mongodb
from django_mongo_sessions.storage import dates
from django_mongo_sessions.storage.documents import TTL_INDEX, USER_INDEX
from tests.checks.helpers import SECRET, said
from tests.conftest import ACTIONS, collection

pytestmark = pytest.mark.django_db


def test_the_server_is_not_checked_unless_a_database_is_named(no_connection):
    assert said() == {}


def create_indexes():
    for index in (TTL_INDEX, USER_INDEX):
        collection().create_index(index.keys, name=index.name, **index.options)


def test_a_correct_server_has_no_findings(mongod_engine):
    create_indexes()
    collection().insert_one({})

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


def test_the_first_migrate_does_not_report_the_index_that_it_is_about_to_create(mongod_engine):
    collection().drop()
    output = io.StringIO()

    call_command("migrate", skip_checks=False, stdout=output, stderr=output)

    assert "(mongo_sessions." not in output.getvalue()
    assert TTL_INDEX.name in collection().index_information()


@pytest.mark.parametrize("name", [TTL_INDEX.name, USER_INDEX.name])
def test_a_missing_index_is_reported_if_there_are_sessions(mongod_engine, name):
    create_indexes()
    collection().drop_index(name)
    assert said(databases=["default"]) == {}

    collection().insert_one({})

    assert f"{name!r} is wrong: missing" in said(databases=["default"])["W011"].msg


def test_an_index_of_users_that_no_query_uses_is_reported(mongod_engine):
    create_indexes()
    collection().drop_index(USER_INDEX.name)
    collection().create_index(USER_INDEX.keys, name=USER_INDEX.name, hidden=True)

    assert f"{USER_INDEX.name!r} is wrong: hidden" in said(databases=["default"])["W011"].msg


def test_a_server_that_is_too_old_is_an_error(mongod_engine, monkeypatch):
    monkeypatch.setattr(checks.server, "OLDEST_SERVER", [99, 0])

    assert "the oldest supported version is" in said(databases=["default"])["E006"].msg


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


# Django's own table

ELSEWHERE = "tests.checks.test_server"


class SessionStore(mongodb.SessionStore):
    """A project's own engine, in a module that SESSION_ENGINE names."""


@pytest.fixture
def a_row(settings):
    """Settings without a server, and an old session in the table."""
    settings.MONGO_SESSIONS = {"URI": "mongomock://"}
    settings.DEBUG = True
    db.SessionStore().save()


@pytest.mark.parametrize("path", ["django_mongo_sessions.backends.mongodb", ELSEWHERE])
def test_a_row_in_djangos_table_is_an_old_session(settings, a_row, path):
    settings.SESSION_ENGINE = path

    assert "'django_session'" in said(databases=["default"])["W016"].msg
    until = (dates.utc_now() + timedelta(days=30)).date()
    settings.MONGO_SESSIONS["PREDECESSOR"] = "django.contrib.sessions.backends.db"
    settings.MONGO_SESSIONS["PREDECESSOR_UNTIL"] = until
    assert said(databases=["default"]) == {}  # its rows are adopted
    assert said() == {}
    Session.objects.all().delete()
    assert said(databases=["default"]) == {}


def test_with_another_engine_the_rows_are_in_use(settings, a_row):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"

    assert "W016" not in said(databases=["default"])


def test_without_the_app_or_its_table_there_are_no_rows(settings, a_row):
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {Session._meta.db_table}")
    assert said(databases=["default"]) == {}

    settings.INSTALLED_APPS = [
        name for name in settings.INSTALLED_APPS if name != "django.contrib.sessions"
    ]
    assert list(said(databases=["default"])) == ["W006"]


def test_a_site_without_a_database_has_no_table(a_row, monkeypatch):
    dummy = connections.configure_settings({})["default"]
    monkeypatch.setitem(connections.settings, "other", dummy)

    assert said(databases=["other"]) == {}
    del connections["other"]


def test_a_database_that_is_down_is_left_to_others(tmp_path):
    (tmp_path / "site_settings.py").write_text(
        "from testproject.settings import *\n"
        'DATABASES["default"]["NAME"] = "/no/such/folder/db.sqlite3"\n'
    )

    result = subprocess.run(
        [sys.executable, "-m", "django", "check", "--database=default", "--settings=site_settings"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "identified no issues" in result.stdout, result.stderr
