"""A new site runs its own tests, by each runner, on a real MongoDB. Its sessions stay as they are.

tox runs it, in an environment that has the built wheel, pytest-django and pytest-xdist.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

import django
import pytest
from pymongo import MongoClient

from tests.conftest import DATABASE, SESSIONS
from tests.packaging.sites import Site

TESTS = f"test_{DATABASE}"
OWN_TESTS = """
from django.conf import settings
from django.contrib.auth.models import User
from django.test import SimpleTestCase, TestCase, override_settings


class Visits:
    def test_a_visit(self):
        session = self.client.session
        session["color"] = "blue"
        session.save()
        self.assertEqual(self.client.session["color"], "blue")


class Static(Visits, SimpleTestCase):
    pass


class SignedIn(TestCase):
    def test_a_user(self):
        self.client.force_login(User.objects.create_user("somebody"))
        self.assertIn("_auth_user_id", self.client.session)


class Overriding(Visits, TestCase):
    def test_another_collection(self):
        given = {**settings.MONGO_SESSIONS, "COLLECTION": "others"}
        with override_settings(MONGO_SESSIONS=given):
            self.test_a_visit()

    async def test_an_event_loop(self):
        session = self.async_client.session
        session["color"] = "blue"
        await session.asave()
"""
# The processes of --parallel as Windows and macOS start them, or as Linux does from Python 3.14 on.
STARTING = """
import multiprocessing, runpy, sys

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    runpy.run_path("manage.py", run_name="__main__")
"""
DJANGO = ["manage.py", "test"]
SPAWNED = ["starting.py", "spawn", "test", "--parallel", "2"]
FORK_SERVED = ["starting.py", "forkserver", "test", "--parallel", "2"]
PYTEST = ["-m", "pytest", "-q", "mysite/tests.py"]


@pytest.fixture(scope="module")
def site(tmp_path_factory, mongod_uri):
    site = Site(tmp_path_factory.mktemp("own") / "site", Path(sys.executable).parent)
    site.run("django-admin", "startproject", "mysite", ".")
    uri = urlsplit(mongod_uri)._replace(path=f"/{DATABASE}").geturl()
    with (site.folder / "mysite" / "settings.py").open("a") as settings:
        settings.write(
            'SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"\n'
            f'MONGO_SESSIONS = {{"URI": "{uri}"}}\n'
        )
    (site.folder / "mysite" / "recommended.py").write_text(
        'from mysite.settings import *\n\nINSTALLED_APPS += ["django_mongo_sessions"]\n'
    )
    (site.folder / "mysite" / "tests.py").write_text(OWN_TESTS)
    (site.folder / "starting.py").write_text(STARTING)
    return site


@pytest.fixture
def server(mongod_uri):
    """The server, with one session of the live site."""
    with MongoClient(mongod_uri) as server:
        server.drop_database(DATABASE)
        server[DATABASE].sessions.insert_one({"_id": "of the live site"})
        yield server
        for name in databases(server):
            server.drop_database(name)


def databases(server):
    return sorted(name for name in server.list_database_names() if DATABASE in name)


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        (DJANGO, "settings"),
        ([*DJANGO, "--parallel", "2"], "recommended"),
        (SPAWNED, "settings"),
        pytest.param(
            *(FORK_SERVED, "settings"),
            marks=pytest.mark.skipif(django.VERSION < (6, 0), reason="new in Django 6.0"),
        ),
        (PYTEST, "recommended"),
        ([*PYTEST, "-n", "2"], "settings"),
    ],
    ids=str,
)
def test_the_tests_pass_and_leave_everything_as_it_was(site, server, command, settings):
    site.run("python", *command, DJANGO_SETTINGS_MODULE=f"mysite.{settings}", PYTHONPATH=".")

    assert databases(server) == [DATABASE]
    assert server[DATABASE].list_collection_names() == ["sessions"]
    assert list(server[DATABASE].sessions.find()) == [{"_id": "of the live site"}]
    assert list(server[DATABASE].sessions.index_information()) == ["_id_"]


@pytest.mark.parametrize(
    ("command", "suffixes"),
    [
        ([*DJANGO, "--keepdb"], [""]),
        ([*DJANGO, "--keepdb", "--parallel", "2"], ["_1", "_2"]),
        ([*SPAWNED, "--keepdb"], ["_1", "_2"]),
        ([*PYTEST, "--reuse-db"], [""]),
        ([*PYTEST, "--reuse-db", "-n", "2"], ["_gw0", "_gw1"]),
    ],
    ids=str,
)
def test_a_runner_that_keeps_its_databases_keeps_the_sessions(site, server, command, suffixes):
    site.run("python", *command, DJANGO_SETTINGS_MODULE="mysite.settings", PYTHONPATH=".")

    kept = [name for name in databases(server) if name != DATABASE]
    # Which of two processes runs which tests, nobody knows.
    assert kept
    assert set(kept) <= {TESTS + suffix for suffix in suffixes}
    stored = [server[name][collection] for name in kept for collection in ("sessions", "others")]
    assert sum(collection.count_documents(SESSIONS) for collection in stored) == 5
    assert server[DATABASE].sessions.count_documents({}) == 1
