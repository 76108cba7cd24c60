"""A site that `django-admin startproject` makes, with the built wheel, in a clean environment.

tox runs it, names the wheel, and has installed the Django that the site uses.
"""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from urllib.parse import urlsplit

import bson
import django
import pytest
from pymongo import MongoClient

from tests.conftest import DATABASE
from tests.packaging.sites import Browser, Site

MENTION = "'django_mongo_sessions' is not in INSTALLED_APPS"


@pytest.fixture(scope="module")
def site(tmp_path_factory, mongod_uri):
    """The site, with the two lines in its settings, and other settings with the third."""
    folder = tmp_path_factory.mktemp("startproject")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    site = Site(folder / "site", folder / "venv" / ("Scripts" if os.name == "nt" else "bin"))
    wheel, version = os.environ["TOX_PACKAGE"], django.get_version()
    site.run("python", "-m", "pip", "install", wheel, f"django=={version}")
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
    site.manage("migrate")
    site.create_superuser()
    return site


@pytest.fixture(scope="module", params=["settings", "recommended"])
def settings(request):
    """The site's settings: without the app, then with it."""
    return f"--settings=mysite.{request.param}"


def mentions(settings):
    """How often a process mentions the app in its log."""
    return 0 if "recommended" in settings else 1


@pytest.fixture(scope="module")
def server_log(site, settings):
    return site.folder / f"server{settings}.log"


@pytest.fixture(scope="module")
def address(site, settings, server_log):
    """The address of the site while it is served."""
    with site.served(settings, log=server_log) as address:
        yield address


@pytest.fixture
def browser(address):
    return Browser(address)


@pytest.fixture
def sessions(site, mongod_uri):
    """The collection that the site's settings name, empty."""
    with MongoClient(mongod_uri) as client:
        collection = client[DATABASE]["sessions"]
        collection.delete_many({})
        yield collection


def test_the_package_brings_django_and_pymongo_and_what_these_need(site):
    program = "from importlib import metadata as m; print(*(d.name for d in m.distributions()))"
    installed = site.run("python", "-c", program).lower().replace("_", "-").split()

    # An environment's own, and what Django needs on some platforms.
    others = {"pip", "setuptools", "typing-extensions", "tzdata"}
    assert set(installed) - others == {
        *("django", "asgiref", "sqlparse"),
        *("pymongo", "dnspython"),
        "django-mongodb-sessions",
    }


def test_the_checks_find_no_issues(site, settings):
    output = site.manage("check", settings)

    assert output == "System check identified no issues (0 silenced).\n"


def test_the_checks_of_a_deployment_run(site, settings):
    # A new site is not ready for deployment, which Django 6.1 calls an error.
    output = site.manage("check", "--deploy", "--fail-level", "CRITICAL", settings)

    assert "System check identified " in output


def test_a_visitor_is_redirected_to_the_login_and_has_no_session(browser, sessions):
    assert browser.get("/admin/") == (302, "/admin/login/?next=/admin/")
    assert browser.get("/admin/login/")[0] == 200

    assert browser.cookie("sessionid") is None
    assert sessions.count_documents({}) == 0


def test_signing_in_opens_the_admin(browser, sessions):
    assert browser.sign_in() == (302, "/admin/")

    status, page = browser.get("/admin/")
    assert status == 200
    assert "Site administration" in page


def test_signing_in_stores_one_document_without_the_key(browser, sessions):
    browser.sign_in()

    key = browser.cookie("sessionid").encode()
    [document] = sessions.find()
    assert document["_id"] == b"\x01" + sha256(key).digest()
    assert document["user_id"] == "1"
    assert key not in bson.encode(document)


def test_the_log_mentions_a_missing_app_once(browser, sessions, settings, server_log):
    browser.sign_in()
    browser.get("/admin/")

    assert server_log.read_text().count(MENTION) == mentions(settings)


def test_with_the_app_migrate_creates_the_indexes_and_the_command_reports_them(site, sessions):
    settings = "--settings=mysite.recommended"
    sessions.drop_indexes()

    site.manage("migrate", settings)

    assert site.manage("mongosessions", settings, "indexes") == (
        "mongo_sessions_expires_at: ok\nmongo_sessions_user_id: ok\n"
    )


def test_djangos_own_table_stays_empty(browser, sessions, site):
    browser.sign_in()

    with closing(sqlite3.connect(site.folder / "db.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM django_session").fetchone() == (0,)


def test_signing_out_deletes_the_document(browser, sessions):
    browser.sign_in()

    assert browser.post("/admin/logout/")[0] == 200

    assert sessions.count_documents({}) == 0
    assert browser.cookie("sessionid") is None
    assert browser.get("/admin/") == (302, "/admin/login/?next=/admin/")


def test_clearsessions_removes_what_has_expired(browser, sessions, site, settings):
    browser.sign_in()
    Browser(browser.address).sign_in()
    sessions.drop_indexes()  # or MongoDB's TTL monitor might be faster
    expired = sessions.find_one()["_id"]
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    sessions.update_one({"_id": expired}, {"$set": {"expires_at": yesterday}})

    output = site.manage("clearsessions", settings)
    assert len(output.splitlines()) == mentions(settings) == output.count(MENTION)

    [left] = sessions.find()
    assert left["_id"] != expired
