"""A site whose models and sessions are all in MongoDB, by an alias of django-mongodb-backend.

tox runs it, with the release of django-mongodb-backend for its Django.
"""

import sys
from pathlib import Path

import pytest
from bson import ObjectId
from django.db import connections
from django_mongodb_backend.features import DatabaseFeatures
from pymongo import MongoClient

from django_mongo_sessions.connection.addresses import address
from tests.conftest import DATABASE
from tests.packaging.sites import Browser, Site

TESTS = f"test_{DATABASE}"
OWN_TESTS = """
import threading

from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase


class Sessions(TestCase):
    def visit(self):
        session = self.client.session
        session["color"] = "blue"
        session.save()
        self.assertEqual(self.client.session["color"], "blue")

    async def test_an_event_loop_is_the_first_to_use_them(self):
        await self.async_client.get("/async/")
        response = await self.async_client.get("/async/")
        self.assertEqual(response.content, b"2")

    def test_a_closed_pool_is_not_theirs(self):
        self.visit()
        connection.close_pool()
        self.visit()

    def test_threads(self):
        thread = threading.Thread(target=self.visit)
        self.visit()
        thread.start()
        thread.join()
        self.visit()


class Users(TestCase):
    def test_one_is_an_object_id(self):
        user = User.objects.create_superuser("root")
        self.client.force_login(user)
        self.assertEqual(self.client.session["_auth_user_id"], str(user.pk))
        self.assertEqual(len(str(user.pk)), 24)
        self.assertContains(self.client.get("/admin/"), "Site administration")
"""
# The backend's releases cannot copy databases, so only such tests can run with --parallel.
WITHOUT_MODELS = """
from django.test import SimpleTestCase


class Visits(SimpleTestCase):
    def test_a_visit(self):
        session = self.client.session
        session["color"] = "blue"
        session.save()
        self.assertEqual(self.client.session["color"], "blue")


class OtherVisits(Visits):
    pass
"""
URLS = """
from django.contrib import admin
from django.db import connection
from django.http import HttpResponse
from django.urls import path


async def visit(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def close(request):
    connection.close_pool()
    return HttpResponse("closed")


urlpatterns = [path("admin/", admin.site.urls), path("async/", visit), path("close/", close)]
"""
APPS = """
from django.contrib.{0}.apps import {1} as Base


class Config(Base):
    default_auto_field = "django_mongodb_backend.fields.ObjectIdAutoField"
{2}
"""
# As django-mongodb-backend documents it, with the three lines of ours.
SETTINGS = """
DATABASES = {{
    "default": {{"ENGINE": "django_mongodb_backend", "HOST": {uri!r}, "NAME": {name!r}}},
}}
DEFAULT_AUTO_FIELD = "django_mongodb_backend.fields.ObjectIdAutoField"
INSTALLED_APPS = [
    "mysite.apps_admin.Config",
    "mysite.apps_auth.Config",
    "mysite.apps_contenttypes.Config",
    *("django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles"),
    "django_mongo_sessions",
]
MIGRATION_MODULES = {{
    name: f"mysite.migrations_{{name}}" for name in ("admin", "auth", "contenttypes")
}}
SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
MONGO_SESSIONS = {{"DATABASE_ALIAS": "default"}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory, mongod_uri):
    """The site, if the server is new enough for the backend."""
    with MongoClient(mongod_uri) as server:
        version = tuple(server.server_info()["versionArray"])
    if version < DatabaseFeatures.minimum_database_version:
        pytest.skip(f"the backend needs MongoDB {DatabaseFeatures.minimum_database_version}")
    site = Site(tmp_path_factory.mktemp("backend") / "site", Path(sys.executable).parent)
    site.run("django-admin", "startproject", "mysite", ".")
    package = site.folder / "mysite"
    with (package / "settings.py").open("a") as settings:
        settings.write(SETTINGS.format(uri=mongod_uri, name=DATABASE))
    admin_site = '    default_site = "django.contrib.admin.sites.AdminSite"'
    for app, config, more in [
        ("admin", "AdminConfig", admin_site),
        ("auth", "AuthConfig", ""),
        ("contenttypes", "ContentTypesConfig", ""),
    ]:
        (package / f"apps_{app}.py").write_text(APPS.format(app, config, more))
        (package / f"migrations_{app}").mkdir()
        (package / f"migrations_{app}" / "__init__.py").touch()
    (package / "urls.py").write_text(URLS)
    (package / "tests.py").write_text(OWN_TESTS)
    (package / "without_models.py").write_text(WITHOUT_MODELS)
    site.manage("makemigrations", "admin", "auth", "contenttypes")
    site.manage("migrate")
    site.create_superuser()
    return site


@pytest.fixture
def server(mongod_uri):
    with MongoClient(mongod_uri) as server:
        server[DATABASE].sessions.delete_many({})
        yield server


def test_the_backend_has_what_the_engine_uses(monkeypatch, settings):
    entry = {
        **connections.settings["default"],
        **{"ENGINE": "django_mongodb_backend", "HOST": "mongodb://db1,db2/?w=1", "NAME": "site"},
        **{"USER": "me", "PASSWORD": "pw", "OPTIONS": {"maxPoolSize": 5}},
    }
    monkeypatch.setitem(connections.settings, "mongo", entry)
    settings.MONGO_SESSIONS = {"DATABASE_ALIAS": "mongo"}

    uri, options, database, _ = address()

    del connections["mongo"]
    assert (uri, database) == ("mongodb://db1,db2/?w=1", "site")
    assert options == {"username": "me", "password": "pw", "maxPoolSize": 5}


def test_the_checks_find_no_issues(site):
    output = site.manage("check", "--database", "default")

    assert output == "System check identified no issues (0 silenced).\n"


def test_an_administrator_signs_in_and_has_an_object_id(site, server):
    with site.served(log=site.folder / "server.log") as address:
        browser = Browser(address)
        assert browser.get("/async/") == (200, "1")
        assert browser.sign_in() == (302, "/admin/")
        browser.get("/close/")
        assert "Site administration" in browser.get("/admin/")[1]
        assert browser.get("/async/") == (200, "2")

    [session] = server[DATABASE].sessions.find({"revision": {"$ne": -1}})
    [user] = server[DATABASE].auth_user.find()
    assert session["user_id"] == str(user["_id"])
    assert isinstance(user["_id"], ObjectId)


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "test"],
        ["manage.py", "test", "--parallel", "2", "mysite.without_models"],
        ["-m", "pytest", "-q", "mysite/tests.py", "mysite/without_models.py"],
        ["-m", "pytest", "-q", "-n", "2", "mysite/tests.py"],
    ],
    ids=" ".join,
)
def test_its_own_tests_leave_everything_as_it_was(site, server, command):
    server[DATABASE].sessions.insert_one({"_id": "of the live site"})

    site.run("python", *command, DJANGO_SETTINGS_MODULE="mysite.settings", PYTHONPATH=".")

    assert list(server[DATABASE].sessions.find()) == [{"_id": "of the live site"}]
    assert not [name for name in server.list_database_names() if name.startswith(TESTS)]
