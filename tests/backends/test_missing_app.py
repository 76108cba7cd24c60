"""The engine works without its app, and recommends it once."""

import asyncio

import pytest
from django.apps import apps
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends import mongodb
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients

NOWHERE = "mongodb://127.0.0.1:1"


@pytest.fixture
def a_new_process(settings):
    """`a_new_process(*apps)` uses a session as if for the first time in a process."""

    def begin(*apps):
        settings.DEBUG = True
        mongodb._recommend_the_app.cache_clear()
        settings.INSTALLED_APPS = [*apps]
        settings.MONGO_SESSIONS = {"URI": NOWHERE, "TIMEOUT": 0.2}

    yield begin
    mongodb._recommend_the_app.cache_clear()
    clients.reset()


@pytest.mark.parametrize(("debug", "level"), [(True, "WARNING"), (False, "INFO")])
def test_a_missing_app_is_logged_once(a_new_process, settings, caplog, logged, debug, level):
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


@pytest.mark.parametrize("form", ["sync", "async"])
def test_what_removes_expired_sessions_recommends_it_too(a_new_process, logged, form):
    a_new_process()

    def clear_expired():
        if form == "sync":
            SessionStore.clear_expired()
        else:
            asyncio.run(SessionStore.aclear_expired())

    with pytest.raises(PyMongoError):
        clear_expired()

    assert "'django_mongo_sessions' is not in INSTALLED_APPS" in logged()[0].getMessage()


def test_an_installed_app_is_not_mentioned(a_new_process, logged):
    a_new_process("django_mongo_sessions")

    SessionStore()

    assert not logged()


def test_an_app_whose_check_is_silenced_is_not_mentioned(a_new_process, settings, logged):
    settings.SILENCED_SYSTEM_CHECKS = ["mongo_sessions.W005"]
    a_new_process()

    SessionStore()

    assert not logged()


def test_nothing_is_logged_before_django_has_loaded_its_apps(a_new_process, monkeypatch, logged):
    a_new_process()
    monkeypatch.setattr(apps, "ready", False)

    SessionStore()

    assert not logged()
