"""An entry of DATABASES instead of a URI."""

import asyncio

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import addresses, clients, testruns
from django_mongo_sessions.connection.addresses import address
from tests.conftest import DATABASE


@pytest.fixture
def aliased(mongod_uri, use, alias):
    """The engine on a real mongod that an entry of DATABASES names."""
    host, port = mongod_uri.removeprefix("mongodb://").rstrip("/").split(":")
    options = {"serverMonitoringMode": "poll", "serverSelectionTimeoutMS": 2000}
    use(DATABASE_ALIAS=alias(NAME=DATABASE, HOST=host, PORT=port, OPTIONS=options))


def test_sessions_are_stored_in_the_database_of_the_alias(aliased):
    session = SessionStore()
    session["color"] = "blue"
    session.save()

    sessions, *_ = clients.collection()
    assert sessions.full_name == f"{DATABASE}.sessions"
    assert SessionStore(session.session_key)["color"] == "blue"


@pytest.mark.parametrize("age", [0, float("inf")])
def test_an_event_loop_may_be_the_first_to_use_it(aliased, monkeypatch, age):
    monkeypatch.setattr(clients, "PROMOTION_AGE", age)

    async def keep():
        session = SessionStore()
        session["color"] = "blue"
        await session.asave()
        session["by"] = "a blocking call"
        session.save()
        return await SessionStore(session.session_key).aload()

    assert asyncio.run(keep()) == {"color": "blue", "by": "a blocking call"}


def test_its_options_are_used_and_ours_where_it_has_none(aliased):
    options = clients.collection().client.options

    assert options.server_selection_timeout == 2
    assert options.pool_options.connect_timeout == 3


def test_client_options_take_precedence_over_those_of_the_alias(use, alias):
    name = alias(HOST="mongodb://db1,db2", USER="me", PASSWORD="pw", OPTIONS={"maxPoolSize": 5})
    use(DATABASE_ALIAS=name, CLIENT_OPTIONS={"maxPoolSize": 7})

    uri, options, database, _ = address()

    assert (uri, database) == ("mongodb://db1,db2", "site")
    assert options == {"username": "me", "password": "pw", "maxPoolSize": 7}


def test_the_database_takes_precedence_over_that_of_the_alias(use, alias):
    use(DATABASE_ALIAS=alias(), DATABASE="other")

    assert clients.collection()[0].database.name == "other"


def test_encryption_of_fields_is_left_to_the_models(use, alias):
    use(DATABASE_ALIAS=alias(OPTIONS={"auto_encryption_opts": object()}))

    assert clients.collection().owned


@pytest.mark.parametrize(
    ("entry", "in_tests"),
    [
        ({"NAME": "site"}, None),
        ({"NAME": "test_site"}, "test_site"),
        ({"NAME": "test_site_1"}, "test_site_1"),
        ({"NAME": "site", "TEST": {"NAME": "other"}}, "other"),
        ({"NAME": "other", "TEST": {"NAME": "other"}}, "other"),
        ({"NAME": "other_2", "TEST": {"NAME": "other"}}, "other_2"),
        ({"NAME": "others", "TEST": {"NAME": "other"}}, "other"),
    ],
)
def test_the_name_that_a_test_runner_gave_it_is_known(use, alias, monkeypatch, entry, in_tests):
    monkeypatch.setitem(addresses._live_names, "mongo", "site")
    use(DATABASE_ALIAS=alias(**entry))

    assert address().test_database == in_tests


@pytest.mark.parametrize(
    ("known", "chosen"),
    # None is known if the app is not installed.
    [({"mongo": "test_site"}, None), ({"mongo": "test_site"}, "test_site"), ({}, None)],
)
def test_no_name_of_the_sites_own_is_taken_for_a_test_runners(
    use, alias, monkeypatch, known, chosen
):
    monkeypatch.setattr(addresses, "_live_names", known)
    use(DATABASE_ALIAS=alias(NAME="test_site", TEST={"NAME": chosen}))

    assert address().test_database is None


@pytest.mark.parametrize("name", ["default", "nowhere"])
def test_an_alias_of_another_kind_is_an_error(use, name):
    use(DATABASE_ALIAS=name)

    with pytest.raises(ImproperlyConfigured, match="DATABASE_ALIAS"):
        clients.collection()


def test_the_names_of_a_test_run_are_not_the_sites(monkeypatch):
    monkeypatch.setattr(addresses, "_live_names", {})
    monkeypatch.setattr(testruns, "environment", object)
    addresses.remember_live_names()
    assert addresses._live_names == {}

    monkeypatch.setattr(testruns, "environment", lambda: None)
    addresses.remember_live_names()
    assert "default" in addresses._live_names
