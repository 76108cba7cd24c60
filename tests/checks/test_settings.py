"""What `manage.py check` says of the settings."""

import html
import os
import pickle
import secrets
import subprocess
import sys
import zlib
from datetime import timedelta

import pytest
from django.contrib.sessions import middleware, serializers
from django.core import checks as django_checks
from django.core import mail

from django_mongo_sessions.checks.messages import MESSAGES
from django_mongo_sessions.checks.settings import uses_engine
from django_mongo_sessions.storage import dates
from tests.checks.helpers import SECRET, said
from tests.connection.test_collection import a_collection


async def slowly(given):
    """Where an ordinary function belongs."""


OLD = {"PREDECESSOR": "django.contrib.sessions.backends.db", "URI": "mongodb://localhost/site"}


def days(number):
    return (dates.utc_now() + timedelta(days=number)).date()


@pytest.mark.parametrize(
    ("id", "given", "words"),
    [
        ("E013", {"PREDECESSOR": "nowhere.at.all"}, "nowhere"),
        ("E013", {"PREDECESSOR": "django_mongo_sessions.backends.mongodb"}, "this engine"),
        ("E013", {"PREDECESSOR": "tests.checks.helpers"}, "SessionStore"),
        ("E014", {"PREDECESSOR_UNTIL": None}, "PREDECESSOR_UNTIL"),
        ("E014", {"PREDECESSOR_UNTIL": "soon"}, "PREDECESSOR_UNTIL"),
        ("W019", {"PREDECESSOR_UNTIL": days(403)}, "days ahead"),
        ("W020", {"PREDECESSOR_UNTIL": days(-1)}, "is over"),
        ("W021", {"PREDECESSOR": "django.contrib.sessions.backends.cache"}, "its cache"),
    ],
)
def test_what_is_wrong_with_a_predecessor_is_found(settings, no_connection, id, given, words):
    settings.MONGO_SESSIONS = {**OLD, "PREDECESSOR_UNTIL": days(30), **given}

    found = said()

    assert list(found) == [id]
    assert words in found[id].msg


def test_a_correct_predecessor_has_no_findings(settings, no_connection):
    settings.MONGO_SESSIONS = {**OLD, "PREDECESSOR_UNTIL": days(30).isoformat()}

    assert said() == {}


WITHOUT_THE_APP = """
import os, django
from django.conf import settings
settings.configure(
    SECRET_KEY="key",
    INSTALLED_APPS=["django_mongo_sessions"],
    MONGO_SESSIONS={
        "URI": "mongodb://localhost/site",
        "PREDECESSOR": "django.contrib.sessions.backends.db",
        "PREDECESSOR_UNTIL": os.environ["DAY"],
    },
)
django.setup()
from django.core.checks import run_checks
print([found.id for found in run_checks() if "mongo_sessions.W02" in found.id])
"""


def test_an_old_engine_whose_app_is_not_installed_is_found():
    environment = {**os.environ, "DAY": days(30).isoformat()}
    command = [sys.executable, "-c", WITHOUT_THE_APP]

    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert printed.stdout.strip() == "['mongo_sessions.W022']"
    assert "W022" in MESSAGES


def test_correct_settings_have_no_findings(no_connection):
    assert said(include_deployment_checks=True) == {}


@pytest.mark.parametrize(
    ("id", "given", "words"),
    [
        ("E001", ["mongodb://localhost"], "is a list"),
        ("E002", {"URL": "mongodb://localhost"}, "'URI'"),
        ("E003", {"TIMEOUT": "5"}, "above 0"),
        ("E003", {"DATABASE": "a b"}, "['DATABASE']"),
        ("E003", {"CLIENT": dict, "COLLECTION": "system.sessions"}, "system."),
        ("E003", {"CLIENT": "nowhere.client"}, "nowhere"),
        ("E003", {"ASYNC_CLIENT": "nowhere.client"}, "nowhere"),
        ("E003", {"CLIENT": "tests.connection.test_collection.a_client"}, "must name a callable"),
        ("E003", {"CLIENT": a_collection}, "must name a callable"),
        ("E004", {"URI": "mongodb://"}, "hostname"),
        ("E004", {"URI": "mongodb://localhost/a b"}, "database name"),
        ("E004", {"URI": "mongodb://user:pw@localhost/a\\b"}, "database names cannot contain"),
        ("E004", {"URI": "mongodb://localhost/site", "CLIENT_OPTIONS": {"w": -1}}, "w"),
        ("E005", {"URI": "mongodb://localhost/site?w=0"}, "w=0"),
        ("E005", {"URI": "mongodb://localhost/site", "CLIENT_OPTIONS": {"w": 0}}, "w=0"),
        ("W003", {"URI": "mongodb://localhost"}, "the same default"),
        ("W003", {}, "the same default"),
        ("W004", {"URI": "mongodb://localhost/site", "TIMEOUT": 31}, "31 seconds"),
        ("W004", {"CLIENT": dict, "TIMEOUT": 31}, "31 seconds"),
        ("W004", {"URI": "mongodb://localhost/site?timeoutMS=31000"}, "31 seconds"),
        ("W004", {"URI": "mongodb://localhost/site?timeoutMS=0"}, "inf seconds"),
        ("W007", {"URI": "mongodb://localhost/site", "ASYNC_CLIENT": dict}, "Set CLIENT"),
        ("W009", {"URI": "mongodb://localhost/site?bogus=1"}, "Unknown option"),
        ("E009", {"TOUCH_INTERVAL": 14 * 24 * 3600}, "1209600 seconds"),
        ("W014", {"CLIENT": dict, "ASYNC": "native"}, "Set ASYNC_CLIENT"),
        ("E003", {"USER_AGENT": 1}, "True or False"),
        ("E003", {"ADDRESS": True}, '"prefix", "full" or None'),
        ("E003", {"ADDRESS_FROM": "address"}, "takes a request"),
        ("E003", {"ADDRESS_FROM": 7}, "takes a request"),
        ("E003", {"MAX_SESSIONS": 0}, "above 0"),
        ("E003", {"MAX_SESSIONS": True}, "above 0"),
        ("E003", {"MAX_SESSIONS": 2.5}, "above 0"),
        ("E003", {"MAX_SESSIONS": "3"}, "above 0"),
        ("E003", {"REVOKE_WITH_ACCOUNT": None}, "True or False"),
        ("E011", {"ADDRESS_FROM": "nowhere.address"}, "['ADDRESS_FROM']: No module"),
        ("E011", {"ADDRESS_FROM": "tests.checks.helpers.address"}, "['ADDRESS_FROM']: Module"),
        ("E011", {"ADDRESS_FROM": "tests.checks.helpers.SECRET"}, "cannot be called"),
        ("E011", {"ADDRESS_FROM": f"{__name__}.slowly"}, "is a coroutine function"),
        ("E011", {"MAX_SESSIONS": "nowhere.limit"}, "['MAX_SESSIONS']: No module"),
        ("E011", {"MAX_SESSIONS": "tests.checks.helpers.SECRET"}, "cannot be called"),
        ("E011", {"MAX_SESSIONS": slowly}, "is a coroutine function"),
        ("E003", {"DATABASE_ALIAS": "mongo", "ASYNC_CLIENT": dict}, "each name a client"),
        ("E003", {"TEST": {"NAME": "a"}}, "with no other key"),
        ("E019", {"DATABASE_ALIAS": "default"}, "whose database is SQLite"),
        ("E019", {"DATABASE_ALIAS": "nowhere"}, "'nowhere' doesn't exist"),
    ],
)
def test_a_wrong_setting_is_found(settings, no_connection, id, given, words):
    settings.MONGO_SESSIONS = given

    message = said()[id]

    assert words in f"{message.msg} {message.hint}"


@pytest.mark.parametrize(
    ("id", "entry", "words"),
    [
        ("E005", {"OPTIONS": {"w": 0}}, "w=0"),
        ("E019", {"PORT": "a"}, "DATABASES['mongo']: invalid literal"),
        ("E020", {"OPTIONS": {"unknown": 1}}, "another value of DATABASES['mongo']. Unknown"),
        ("E020", {"HOST": f"mongodb://user:{SECRET}/x@localhost"}, "must be percent-escaped"),
        ("W026", {}, "is not used"),
    ],
)
def test_a_wrong_entry_of_databases_is_found(settings, no_connection, alias, id, entry, words):
    settings.MONGO_SESSIONS["DATABASE_ALIAS"] = alias(**entry)

    message = said()[id]

    assert words in f"{message.msg} {message.hint}"
    assert SECRET not in f"{message.msg} {message.hint}"


@pytest.mark.parametrize(
    ("host", "options", "found"),
    [
        ("", {}, set()),
        ("localhost", {}, set()),
        ("db.example.com", {}, {"W008"}),
        ("db.example.com", {"tls": True}, set()),
    ],
)
def test_the_connection_of_an_alias_has_to_use_tls(
    settings, no_connection, alias, host, options, found
):
    settings.MONGO_SESSIONS = {"DATABASE_ALIAS": alias(HOST=host, OPTIONS=options)}

    assert set(said(include_deployment_checks=True)) == found


@pytest.mark.parametrize(
    "given",
    [
        {"URI": "mongodb+srv://user:pw@cluster.example.com/site"},
        {"URI": "mongodb+srv://cluster.example.com/site", "CLIENT_OPTIONS": {"connect": True}},
        {"URI": "mongodb+srv://cluster.example.com/site?connect=true"},
        {"URI": "mongodb://localhost/django"},
        {"URI": "mongodb://localhost/site?timeoutMS=900", "TIMEOUT": 31},
        {"URI": "mongodb://localhost/site", "CLIENT_OPTIONS": {"timeoutMS": 900}, "TIMEOUT": 31},
        {"URI": "mongodb://localhost", "DATABASE": "site"},
        {"CLIENT": lambda: pytest.fail("a check calls CLIENT"), "ASYNC_CLIENT": dict},
        {
            "URI": "mongodb://localhost/site",
            "USER_AGENT": True,
            "ADDRESS": "prefix",
            "ADDRESS_FROM": "django_mongo_sessions.middleware.client_info.remote_address",
            "MAX_SESSIONS": lambda user_id: pytest.fail("a check calls MAX_SESSIONS"),
            "REVOKE_WITH_ACCOUNT": False,
        },
        {"URI": "mongodb://localhost/site", "ADDRESS": "full", "MAX_SESSIONS": 3},
        {"URI": "mongomock://"},
    ],
)
def test_other_correct_settings_have_no_findings(settings, no_connection, given):
    settings.MONGO_SESSIONS = given
    settings.DEBUG = True

    assert set(said()) <= {"W007"}
    assert "W007" not in said() or "CLIENT" not in given


def test_an_interval_has_no_effect_with_djangos_middleware(settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "TOUCH_INTERVAL": 600}
    assert said() == {}

    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]

    assert "django_mongo_sessions.middleware.SessionMiddleware" in said()["W015"].hint


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({"ADDRESS": "full"}, ["ADDRESS"]),
        ({"ADDRESS": "prefix", "USER_AGENT": False}, ["ADDRESS"]),
        ({"USER_AGENT": True}, ["USER_AGENT"]),
        ({"USER_AGENT": True, "ADDRESS": "full"}, ["USER_AGENT", "ADDRESS"]),
        ({"USER_AGENT": False, "ADDRESS": None, "MAX_SESSIONS": 3}, []),
    ],
)
def test_with_djangos_middleware_only_sign_ins_record_the_client(settings, given, keys):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **given}
    assert said() == {}

    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]

    found = [each.msg for each in django_checks.run_checks() if each.id == "mongo_sessions.W017"]
    assert len(found) == len(keys)
    assert all(f"[{key!r}]" in text for key, text in zip(keys, found, strict=True))
    assert ("W017" in said()) == bool(keys)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "given",
    [
        ["mongodb://localhost"],
        {"URI": None},
        {"URI": "mongodb://db.example.com/site", "CLIENT_OPTIONS": None},
        {"URI": "mongodb://db.example.com:port/site"},
        {"TIMEOUT": "5"},
    ],
)
def test_a_wrong_setting_is_reported_once_and_by_one_check(settings, no_connection, given):
    settings.MONGO_SESSIONS = given

    [id] = said(include_deployment_checks=True, databases=["default"])

    assert id.startswith("E")


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://user:a@{SECRET}@localhost/site",
        f"mongodb://user:{SECRET}/x@localhost/site",
        f"mongodb://user:2024/{SECRET}@localhost",
        f"mongodb://user:2024?{SECRET}@localhost",
        f"mongodb://user:2024?{SECRET}=x@localhost",
        f"mongodb://user:2024?w={SECRET}&j={SECRET}@localhost",
        f"mongodb://user:{SECRET}@localhost/a b",
        f"mongodb://localhost/site?tlsCertificateKeyFilePassword={SECRET}&maxPoolSize={SECRET}",
    ],
)
def test_no_message_shows_a_password(settings, uri):
    settings.MONGO_SESSIONS = {"URI": uri}

    messages = said()

    assert messages
    assert SECRET not in str(messages)


@pytest.mark.parametrize("tls", ["", "?tls=true"])
def test_a_remote_server_should_have_tls(settings, no_connection, tls):
    settings.MONGO_SESSIONS = {"URI": f"mongodb://db.example.com/site{tls}"}

    assert ("W008" in said(include_deployment_checks=True)) == (not tls)
    assert "W008" not in said()


# The site around it


class Unpickles:
    """A serializer as some sites have written it to keep Django's old one."""

    def dumps(self, data):
        return pickle.dumps(data)

    def loads(self, body):
        return pickle.loads(body)


class Wraps:
    """The same, in less space."""

    def dumps(self, data):
        return zlib.compress(pickle.dumps(data))

    def loads(self, body):
        return pickle.loads(zlib.decompress(body))


class Stamps(serializers.JSONSerializer):
    """One that returns different bodies for one dict, as one does that encrypts with a nonce."""

    def dumps(self, data):
        return super().dumps({**data, "nonce": secrets.token_hex()})


class Escapes(serializers.JSONSerializer):
    """One that brings a text back otherwise than it was."""

    def dumps(self, data):
        return super().dumps({key: html.escape(str(value)) for key, value in data.items()})


class Fails(Stamps):
    def dumps(self, data):
        raise RuntimeError("no key")


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("django.contrib.sessions.serializers.JSONSerializer", []),
        ("tests.checks.test_settings.Unpickles", ["W001"]),
        ("tests.checks.test_settings.Wraps", ["W001"]),
        ("tests.checks.test_settings.Stamps", ["W013"]),
        ("tests.checks.test_settings.Escapes", ["W013"]),
        ("tests.checks.test_settings.Fails", []),
        ("tests.nowhere.Serializer", ["E007"]),
        ("tests.checks.test_settings.SECRET", ["E007"]),
    ],
)
def test_an_unsuitable_serializer_is_found(settings, path, ids):
    settings.SESSION_SERIALIZER = path

    assert list(said()) == ids


@pytest.mark.parametrize(
    ("path", "id", "words"),
    [
        ("django_mongo_sessions.backends.mongo", "E021", "No module named"),
        ("tests.checks.helpers", "E021", '"SessionStore" attribute'),
        ("tests.checks.failing_engine", "E021", "KeyError('ENGINE_KEY')"),
        ("", "E021", "'', which cannot be used"),
        ("django.contrib.sessions.backends.db", "W027", "Django's default, which does not use"),
        ("django.contrib.sessions.backends.cache", "W027", ".cache', which does not use"),
    ],
)
def test_another_engine_is_found_beside_our_settings(settings, no_connection, path, id, words):
    settings.SESSION_ENGINE = path

    found = said(include_deployment_checks=True)

    assert list(found) == [id]
    assert not uses_engine()
    assert words in found[id].msg
    assert '"django_mongo_sessions.backends.mongodb"' in found[id].hint


def test_an_engine_that_derives_from_ours_has_no_findings(settings, no_connection):
    settings.SESSION_ENGINE = "tests.engine.derived"

    assert said() == {}


def test_another_engine_has_no_findings_until_our_settings_are_there(settings, no_connection):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    del settings.MONGO_SESSIONS

    assert "W027" not in said()


def test_the_old_engine_has_no_findings_before_the_switch(settings, no_connection):
    settings.MONGO_SESSIONS = {**OLD, "PREDECESSOR_UNTIL": days(30)}
    settings.SESSION_ENGINE = OLD["PREDECESSOR"]
    assert said() == {}

    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    assert list(said()) == ["W027"]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"URI": "mongomock://"}, "URI"),
        ({"CLIENT": "mongomock.MongoClient"}, "CLIENT"),
        ({"CLIENT": "tests.checks.mock_client.client"}, "CLIENT"),
    ],
)
def test_mongomock_has_to_be_installed(settings, monkeypatch, given, key):
    settings.MONGO_SESSIONS = given
    monkeypatch.delattr(mail, "outbox")
    monkeypatch.delitem(sys.modules, "tests.checks.mock_client", raising=False)
    monkeypatch.setitem(sys.modules, "mongomock", None)

    found = said()

    assert list(found) == ["E022"]
    assert found["E022"].msg.startswith(f"MONGO_SESSIONS['{key}']")
    assert "pip install mongomock" in found["E022"].hint


@pytest.mark.parametrize(
    ("given", "is_found"),
    [
        ({"URI": f"mongodb://site:{SECRET}@localhost/site"}, True),
        ({"URI": f"mongodb://localhost/site?tlsCertificateKeyFilePassword={SECRET}"}, True),
        ({"URI": f"mongodb://site:{SECRET}@localhost/site", "CLIENT": dict}, False),
        ({"URI": "mongodb://site@localhost/site", "CLIENT_OPTIONS": {"password": SECRET}}, False),
        ({"URI": "mongodb://localhost/a:b?appName=c:d@e"}, False),
    ],
)
def test_the_uri_should_have_no_password(settings, no_connection, given, is_found):
    settings.MONGO_SESSIONS = given

    found = said(include_deployment_checks=True)

    assert ("W028" in found) == is_found
    assert SECRET not in str(found)
    assert "W028" not in said()


def test_the_uri_of_an_alias_is_not_ours_to_judge(settings, no_connection, alias):
    uri = f"mongodb://site:{SECRET}@localhost/site"
    settings.MONGO_SESSIONS = {"DATABASE_ALIAS": alias(HOST=uri)}

    assert said(include_deployment_checks=True) == {}


def test_mongomock_is_for_tests(settings, monkeypatch):
    settings.MONGO_SESSIONS = {"URI": "mongomock://"}
    settings.DEBUG = False
    assert "W002" not in said()

    monkeypatch.delattr(mail, "outbox")
    assert "W002" in said()


@pytest.mark.parametrize(
    ("id", "app"), [("W005", "django_mongo_sessions"), ("W006", "django.contrib.sessions")]
)
def test_a_missing_app_is_named(settings, id, app):
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != app]

    assert app in said()[id].msg


@pytest.mark.parametrize("imports", [False, True])
def test_a_missing_app_is_reported_only_if_the_models_import_the_engine(tmp_path, imports):
    (tmp_path / "site_settings.py").write_text(
        'SECRET_KEY = "for this test"\n'
        'INSTALLED_APPS = ["django.contrib.sessions", "site_app"]\n'
        'MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]\n'
        'SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"\n'
    )
    engine = "from django_mongo_sessions.backends import mongodb\n" if imports else ""
    (tmp_path / "site_app").mkdir()
    (tmp_path / "site_app" / "models.py").write_text(engine)

    result = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings=site_settings"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ("mongo_sessions.W005" in result.stderr) == imports
    assert ("identified no issues" in result.stdout) == (not imports)


class SessionMiddleware(middleware.SessionMiddleware):
    """One that can take the place of Django's."""


@pytest.mark.parametrize("secure", [True, False])
def test_the_cookies_flags_are_checked_with_another_middleware_too(settings, secure):
    settings.SESSION_COOKIE_SECURE = settings.SESSION_COOKIE_HTTPONLY = secure
    settings.INSTALLED_APPS = [
        name
        for name in settings.INSTALLED_APPS
        if name not in ("django.contrib.sessions", "django.contrib.admin")
    ]

    def ids(path):
        settings.MIDDLEWARE = [path, "django.middleware.common.CommonMiddleware", "no.such.thing"]
        messages = django_checks.run_checks(include_deployment_checks=True)
        return {message.id for message in messages} & {"security.W011", "security.W014"}

    djangos = ids("django.contrib.sessions.middleware.SessionMiddleware")
    assert ids("tests.checks.test_settings.SessionMiddleware") == djangos
    assert bool(djangos) == (not secure)
    assert not ids("django.middleware.common.CommonMiddleware")


def test_the_demos_settings_have_no_findings():
    result = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings=testproject.settings"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.stdout.startswith("System check identified no issues"), result.stderr


@pytest.mark.parametrize("fallbacks", [[""], ["old", b""]])
def test_an_empty_fallback_key_is_an_error(settings, fallbacks):
    settings.SECRET_KEY_FALLBACKS = fallbacks

    assert "E010" in said()
    settings.SECRET_KEY_FALLBACKS = ["old"]
    assert "E010" not in said()
