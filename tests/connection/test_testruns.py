"""A test run of a site: a database of its own, which is dropped at the end.

tests/packaging runs the tests of whole sites, by each runner.
"""

import asyncio
import gc
import multiprocessing.util
import os
import sys
import threading
from functools import partial
from types import SimpleNamespace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import runner, utils
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import ServerSelectionTimeoutError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import addresses, clients, logs, testruns
from django_mongo_sessions.mongo import indexes
from tests.conftest import DATABASE

NOWHERE = "mongodb://127.0.0.1:1"
TESTS = f"test_{DATABASE}"
environment = testruns.environment  # before the tests replace it


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """No process beside this one runs tests, as far as the engine can see."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("TOX_PARALLEL_ENV", raising=False)
    monkeypatch.setattr(indexes, "_ensured", set())


class Run:
    """Django's test environment, as the engine sees it, from `begin()` to `end()`."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.outer = utils._TestState.saved_data

    def begin(self):
        self.monkeypatch.setattr(testruns, "environment", environment)
        utils._TestState.saved_data = SimpleNamespace()

    def end(self):
        # As Django does, which lets go of it when it is no longer there.
        kept = utils._TestState.saved_data
        del utils._TestState.saved_data
        del kept

    def restore(self):
        kept = vars(utils._TestState).get("saved_data")
        utils._TestState.saved_data = self.outer
        del kept
        multiprocessing.util._run_finalizers(testruns.EXIT_PRIORITY)


@pytest.fixture
def run(monkeypatch):
    run = Run(monkeypatch)
    yield run
    run.restore()
    gc.collect()  # what is left of a test run ends here, and not in another test
    clients.reset()


@pytest.fixture
def server(mongod_uri):
    with MongoClient(mongod_uri) as server:
        yield server
        for name in server.list_database_names():
            if DATABASE in name:
                server.drop_database(name)


def save():
    session = SessionStore()
    session["color"] = "blue"
    session.save()
    return session


def name():
    return clients.collection()[0].database.name


def test_django_sets_up_and_tears_down_what_the_engine_looks_at():
    assert environment() is utils._TestState.saved_data
    assert runner._worker_id == 0


def test_without_the_module_that_sets_it_up_nothing_is_tested(monkeypatch):
    monkeypatch.delitem(sys.modules, "django.test.utils")

    assert environment() is None


def test_a_test_run_stores_in_a_database_of_its_own(mongod_engine, run, server):
    save()
    run.begin()
    save()
    save()

    assert server[DATABASE].sessions.count_documents({}) == 1
    assert server[TESTS].sessions.count_documents({}) == 2


def test_its_database_has_the_index(mongod_engine, run, server):
    run.begin()
    save()

    assert "mongo_sessions_expires_at" in server[TESTS].sessions.index_information()


def test_the_end_drops_it_and_nothing_else(mongod_engine, run, server):
    save()
    run.begin()
    save()

    run.end()

    assert TESTS not in server.list_database_names()
    assert server[DATABASE].sessions.count_documents({}) == 1
    save()
    assert server[DATABASE].sessions.count_documents({}) == 2


def test_the_end_leaves_what_the_tests_of_the_site_have_stored_beside_it(
    mongod_engine, run, server
):
    run.begin()
    save()
    server[TESTS].other.insert_one({})

    run.end()

    assert server[TESTS].list_collection_names() == ["other"]


def test_whatever_settings_a_test_had_is_dropped(mongod_engine, run, server, settings):
    run.begin()
    save()
    given = settings.MONGO_SESSIONS
    settings.MONGO_SESSIONS = {**given, "COLLECTION": "others"}
    save()
    settings.MONGO_SESSIONS = given
    assert sorted(server[TESTS].list_collection_names()) == ["others", "sessions"]

    run.end()

    assert TESTS not in server.list_database_names()
    assert given == settings.MONGO_SESSIONS


def test_each_server_that_a_test_had_is_dropped_from(mongod_engine, run, server, settings):
    run.begin()
    given = settings.MONGO_SESSIONS
    settings.MONGO_SESSIONS = {**given, "URI": NOWHERE, "TIMEOUT": 0.05}
    clients.collection()
    settings.MONGO_SESSIONS = given
    save()

    run.end()

    assert TESTS not in server.list_database_names()


def test_an_event_loop_stores_there_too(mongod_engine, run, server, monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)

    async def save_twice():
        await SessionStore().asave()
        run.begin()
        await SessionStore().asave()

    asyncio.run(save_twice())

    assert server[DATABASE].sessions.count_documents({}) == 1
    assert server[TESTS].sessions.count_documents({}) == 1
    run.end()
    assert TESTS not in server.list_database_names()


def test_shared_clients_store_there_too(mongod_engine, run, server, settings):
    def a_client():
        return AsyncMongoClient(mongod_engine)

    settings.MONGO_SESSIONS = {
        **{"DATABASE": DATABASE, "CLIENT": lambda: server, "ASYNC_CLIENT": a_client}
    }
    run.begin()
    save()
    assert server[TESTS].sessions.count_documents({}) == 1

    run.end()

    assert TESTS not in server.list_database_names()
    assert server.admin.command("ping")  # the client is the site's, and stays open


@pytest.mark.parametrize(
    ("given", "database"),
    [
        ({"URI": NOWHERE}, "test_django"),
        ({"URI": f"{NOWHERE}/site"}, "test_site"),
        ({"URI": f"{NOWHERE}/test_site"}, "test_test_site"),
        ({"URI": NOWHERE, "DATABASE": "other"}, "test_other"),
        ({"URI": NOWHERE, "DATABASE": "other", "TEST": {"DATABASE": None}}, "test_other"),
        ({"URI": NOWHERE, "DATABASE": "other", "TEST": {"DATABASE": "mine"}}, "mine"),
    ],
)
def test_its_name_is_that_of_the_site_with_a_prefix_or_its_own(use, run, given, database):
    use(**given, TIMEOUT=0.05)
    run.begin()

    assert name() == database


@pytest.mark.parametrize(
    ("entry", "database"),
    [
        ({}, "test_site"),
        ({"NAME": "test_site"}, "test_site"),
        ({"TEST": {"NAME": "mine"}}, "mine"),
    ],
)
def test_an_alias_has_the_name_that_django_gives_it(use, run, alias, entry, database, monkeypatch):
    monkeypatch.setitem(addresses._live_names, "mongo", "site")
    use(DATABASE_ALIAS=alias(**entry), TIMEOUT=0.05)
    run.begin()

    assert name() == database


@pytest.mark.parametrize(
    ("variables", "number", "database"),
    [
        ({"PYTEST_XDIST_WORKER": "gw1"}, 0, "test_site_gw1"),
        ({"TOX_PARALLEL_ENV": "3.12 a", "PYTEST_XDIST_WORKER": "gw1"}, 0, "test_site_3_12_a_gw1"),
        ({}, 2, "test_site_2"),
    ],
)
def test_each_process_of_a_test_run_has_one(use, run, monkeypatch, variables, number, database):
    use(DATABASE="site", URI=NOWHERE, TIMEOUT=0.05)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(runner, "_worker_id", number)
    run.begin()

    assert name() == database


def test_what_the_runner_has_added_to_the_name_is_not_added_again(use, run, alias, monkeypatch):
    use(DATABASE_ALIAS=alias(NAME="test_site_gw1", TEST={"NAME": "test_site_gw1"}), TIMEOUT=0.05)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    run.begin()

    assert name() == "test_site_gw1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"DATABASE": "a" * 60}, "longer than MongoDB's 63 bytes"),
        ({"DATABASE": "site", "TEST": {"DATABASE": "site"}}, "the site's own database, 'site'"),
    ],
)
def test_a_name_that_cannot_be_used_is_an_error(use, run, given, words):
    use(**given, TIMEOUT=0.05)
    run.begin()

    with pytest.raises(ImproperlyConfigured, match=words):
        clients.collection()


def test_a_live_database_whose_name_looks_like_a_tests_is_not_touched(
    mongod_engine, run, server, use, alias
):
    use(DATABASE_ALIAS=alias(NAME=DATABASE, HOST=mongod_engine))  # "test_…"
    save()
    run.begin()  # and no test needs the database, so the runner gives it no other name
    save()
    run.end()

    assert server[DATABASE].sessions.count_documents({}) == 1


def test_a_test_run_that_begins_while_the_live_client_is_made_does_not_drop_what_is_live(
    mongod_engine, run, server, monkeypatch
):
    save()
    clients.reset()

    def begin(*args):
        monkeypatch.undo()
        run.begin()

    monkeypatch.setattr(logs, "redact_commands", begin)
    save()
    run.end()

    assert server[DATABASE].sessions.count_documents({}) > 0


# The end, as the runners have it


class KeepingRunner:
    keepdb = True

    def end(self, run):
        run.end()


def with_reuse_db(run):
    config = SimpleNamespace(option=SimpleNamespace(reuse_db=True))
    run.end()
    return config


@pytest.mark.parametrize("end", [KeepingRunner().end, with_reuse_db])
def test_a_runner_that_keeps_its_databases_keeps_this_one(mongod_engine, run, server, end):
    run.begin()
    save()

    end(run)

    assert server[TESTS].sessions.count_documents({}) == 1


def test_a_worker_drops_its_database_when_it_exits(mongod_engine, run, server, monkeypatch):
    run.begin()
    save()
    monkeypatch.setattr(runner, "_worker_id", 2)
    clients.reset()
    save()
    assert server[f"{TESTS}_2"].sessions.count_documents({}) == 1

    multiprocessing.util._run_finalizers(testruns.EXIT_PRIORITY)

    assert f"{TESTS}_2" not in server.list_database_names()


def test_a_worker_keeps_its_database_if_the_command_says_so(
    mongod_engine, run, server, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["manage.py", "test", "--keepdb"])
    run.begin()
    monkeypatch.setattr(runner, "_worker_id", 2)
    save()

    multiprocessing.util._run_finalizers(testruns.EXIT_PRIORITY)

    assert server[f"{TESTS}_2"].sessions.count_documents({}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_a_test_does_not_end_the_test_run(mongod_engine, run, server):
    run.begin()
    save()
    if not (child := os.fork()):
        status = 1
        try:
            run.end()
            status = 0
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server[TESTS].sessions.count_documents({}) == 1


def test_a_database_that_cannot_be_dropped_is_logged(run, use, logged):
    use(URI="mongodb://me:S3CRET@127.0.0.1:1/site", TIMEOUT=0.05)
    run.begin()
    clients.collection()

    run.end()

    [record] = logged()
    assert "'test_site' of a test run was not dropped: 127.0.0.1:1: [" in record.getMessage()
    assert "Topology" not in record.getMessage()
    assert "S3CRET" not in record.getMessage()


def test_a_server_that_was_never_found_is_not_waited_for_again(run, use, logged):
    use(URI=NOWHERE, TIMEOUT=0.05)
    run.begin()
    with pytest.raises(ServerSelectionTimeoutError):
        SessionStore().exists(32 * "a")

    run.end()

    assert not logged()


def test_a_client_that_got_a_reply_takes_the_place_of_one_that_got_none(run):
    run.begin()
    dropped = []
    for number, is_needless in enumerate([True, False, True]):
        drop = testruns.Drop(partial(dropped.append, number), partial(bool, is_needless))
        testruns.drop_at_end(testruns.environment(), "a place", drop)

    run.end()

    assert dropped == [1]


def test_a_test_run_that_begins_beside_other_threads_is_followed_by_them(
    mongod_engine, run, server
):
    thread = threading.Thread(target=save)
    save()
    run.begin()
    thread.start()
    thread.join()

    assert server[TESTS].sessions.count_documents({}) == 1
