"""The engine works without its app, and recommends it once."""

import pytest
from django.apps import apps

from django_mongo_sessions.backends import mongodb
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients

NOWHERE = "mongodb://127.0.0.1:1"


@pytest.fixture
def a_new_process(settings):
    """As the first use of sessions in a process; `a_new_process(*apps)`."""

    def begin(*apps):
        settings.DEBUG = True
        mongodb._recommend_the_app.cache_clear()
        settings.INSTALLED_APPS = [*apps]
        settings.MONGO_SESSIONS = {"URI": NOWHERE}

    yield begin
    mongodb._recommend_the_app.cache_clear()
    clients.reset()


@pytest.mark.parametrize(("debug", "level"), [(True, "WARNING"), (False, "INFO")])
def test_a_missing_app_is_said_once_by_the_log(
    a_new_process, settings, caplog, logged, debug, level
):
    caplog.set_level("INFO")
    a_new_process("django.contrib.sessions")
    settings.DEBUG = debug

    SessionStore()
    settings.MONGO_SESSIONS = {"URI": f"{NOWHERE}/other"}
    SessionStore()

    [record] = logged()
    assert (record.name, record.levelname) == ("django_mongo_sessions", level)
    assert "'django_mongo_sessions' is not in INSTALLED_APPS" in record.getMessage()
    assert "Add 'django_mongo_sessions' to INSTALLED_APPS." in record.getMessage()


def test_an_app_that_is_there_is_not_mentioned(a_new_process, logged):
    a_new_process("django_mongo_sessions")

    SessionStore()

    assert not logged()


def test_an_app_whose_check_is_silenced_is_not_mentioned(a_new_process, settings, logged):
    settings.SILENCED_SYSTEM_CHECKS = ["mongo_sessions.W005"]
    a_new_process()

    SessionStore()

    assert not logged()


def test_before_django_has_its_apps_nothing_is_said_of_one(a_new_process, monkeypatch, logged):
    a_new_process()
    monkeypatch.setattr(apps, "ready", False)

    SessionStore()

    assert not logged()
