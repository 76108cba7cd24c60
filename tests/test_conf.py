from datetime import date, datetime, timezone

import pytest
from django.contrib.sessions.backends.db import SessionStore as Database
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.views.debug import SafeExceptionReporterFilter
from pymongo import MongoClient
from pymongo.errors import InvalidName

from django_mongo_sessions.conf import KEYS, conf

# What PyMongo refuses too.
BAD_DATABASES = ["", "a b", "a.b", "a$b", "a/b", "a\\b", 'a"b', "a\0b"]
BAD_COLLECTIONS = ["", "a$b", "a..b", ".a", "a.", "a\0b"]

# Each key with values that it accepts, and values that it does not.
VALUES = {
    "URI": (["mongodb://localhost", "mongomock://"], ["", None, ["localhost"], 27017]),
    "DATABASE": (["site", None, "a-b:c*é", 31 * "é"], [1, *BAD_DATABASES, 32 * "é", "\ud800"]),
    "COLLECTION": (["sessions", "a b.c/d.system.e"], [None, 1, "system.a", *BAD_COLLECTIONS]),
    "DATABASE_ALIAS": ([None, "default"], [1, {"default": {}}, True]),
    "CLIENT": ([None, dict, "site.mongo.client"], ["client", 1, {}]),
    "ASYNC_CLIENT": ([None, dict, "site.mongo.client"], ["client", 1, {}]),
    "CLIENT_OPTIONS": ([{}, {"maxPoolSize": 5}], [None, [], {1: 2}, "maxPoolSize=5"]),
    "TIMEOUT": ([0.5, 5], [0, -1, "5", None, True, float("inf"), float("nan")]),
    "TEST": ([{}, {"DATABASE": "a"}, {"DATABASE": None}], [None, {"NAME": "a"}, {"DATABASE": ""}]),
    "ASYNC": (["auto", "native", "threads"], ["sync", None, True]),
    "COALESCE": ([True, False], ["yes", None, 1]),
    "ON_CONFLICT": (["merge", "raise"], ["overwrite", None, True]),
    "TOUCH_INTERVAL": ([None, 0.5, 3600], [0, -1, "5", True]),
    "ABSOLUTE_AGE": ([None, 0.5, 43_200], [0, -1, "5", True, float("inf")]),
    "TRACK_NESTED": ([True, False], ["yes", None, 1]),
    "COMPRESS": ([None, False, 0, 1, 100_000], [True, -1, "4096", 4096.0]),
    "ENCRYPTION_KEYS": ([None, [], ["a"], (b"b",), dict, "site.vault.keys"], ["a", b"b", 1, {}]),
    "ENCRYPTION": ([None, "prepare", "transition", "only"], ["Only", True, False]),
    "USER_AGENT": ([True, False], ["yes", None, 1, 0]),
    "ADDRESS": ([None, "prefix", "full"], ["none", True, False, 24]),
    "ADDRESS_FROM": ([None, dict, "site.addresses.client"], ["client", 1, {}]),
    "MAX_SESSIONS": ([None, 1, 100, dict, "site.limits.of"], [0, -1, 2.5, True, "3", {}]),
    "REVOKE_WITH_ACCOUNT": ([True, False], ["yes", None, 1]),
    "REAUTHENTICATE": ([None, 0.5, 900], [0, -1, "900", True, float("inf")]),
    "PREDECESSOR": ([None, "django.contrib.sessions.backends.db"], ["", 1, dict]),
    "PREDECESSOR_UNTIL": ([None, "2027-01-15", date(2027, 1, 15)], [1, True, []]),
    "PREDECESSOR_KEEPS": ([True, False], ["yes", None, 1]),
}


@override_settings()
def test_every_key_is_optional(settings):
    del settings.MONGO_SESSIONS

    assert conf.URI == "mongodb://localhost:27017"
    assert conf.DATABASE is None
    assert conf.COLLECTION == "sessions"
    assert conf.DATABASE_ALIAS is None
    assert conf.CLIENT is None
    assert conf.ASYNC_CLIENT is None
    assert conf.CLIENT_OPTIONS == {}
    assert conf.TIMEOUT == 5.0
    assert conf.TEST == {}
    assert conf.ASYNC == "auto"
    assert conf.COALESCE is True
    assert conf.ON_CONFLICT == "merge"
    assert conf.TOUCH_INTERVAL is None
    assert conf.ABSOLUTE_AGE is None
    assert conf.TRACK_NESTED is False
    assert conf.COMPRESS is None
    assert conf.ENCRYPTION_KEYS is None
    assert conf.ENCRYPTION is None
    assert conf.USER_AGENT is False
    assert conf.ADDRESS is None
    assert conf.ADDRESS_FROM is None
    assert conf.MAX_SESSIONS is None
    assert conf.REVOKE_WITH_ACCOUNT is True
    assert conf.REAUTHENTICATE == 900
    assert conf.PREDECESSOR is None
    assert conf.PREDECESSOR_UNTIL is None
    assert conf.PREDECESSOR_KEEPS is False


def test_settings_are_read_live(settings):
    for uri in ("mongodb://one", "mongodb://two"):
        settings.MONGO_SESSIONS = {"URI": uri}
        assert uri == conf.URI


def test_every_key_is_tested_here():
    assert set(VALUES) == set(KEYS)


@pytest.mark.parametrize("key", VALUES)
def test_a_correct_value_is_returned_and_has_no_fault(settings, key):
    for value in VALUES[key][0]:
        settings.MONGO_SESSIONS = {key: value}

        assert getattr(conf, key) == value
        assert list(conf.faults()) == []


@pytest.mark.parametrize("key", VALUES)
def test_a_wrong_value_is_a_fault_that_says_what_the_key_accepts(settings, key):
    for value in VALUES[key][1]:
        settings.MONGO_SESSIONS = {key: value}

        [fault] = conf.faults()
        assert fault.key == key
        assert KEYS[key].accepts in fault.remedy


def test_a_fault_does_not_show_the_value(settings):
    settings.MONGO_SESSIONS = {"URI": ["mongodb://user:secret@host"]}

    [fault] = conf.faults()

    assert "secret" not in str(fault)


@pytest.mark.parametrize(
    ("key", "near"), [("uri", "URI"), ("DATABSE", "DATABASE"), ("CLIENT_OPTION", "CLIENT_OPTIONS")]
)
def test_an_unknown_key_is_a_fault_that_names_the_nearest_key(settings, key, near):
    settings.MONGO_SESSIONS = {key: "x"}

    [fault] = conf.faults()
    assert fault.remedy == f"Did you mean {near!r}?"


def test_a_key_unlike_any_other_is_a_fault_that_lists_all_keys(settings):
    settings.MONGO_SESSIONS = {"QQQ": "x"}

    [fault] = conf.faults()
    assert "URI, DATABASE, COLLECTION" in fault.remedy


def test_settings_that_are_not_a_dict_are_refused(settings):
    settings.MONGO_SESSIONS = ["mongodb://localhost"]

    with pytest.raises(ImproperlyConfigured, match="is a list"):
        conf.URI  # noqa: B018
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        list(conf.faults())


def test_the_key_that_seals_comes_before_those_that_only_open(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old", "older"]

    assert conf.SIGNING_KEYS == ["new", "old", "older"]


def test_djangos_error_pages_mask_a_password_with_a_name_of_its_own(settings):
    settings.MONGO_SESSIONS = {"CLIENT_OPTIONS": {"username": "site", "password": "S3CRET"}}

    shown = SafeExceptionReporterFilter().get_safe_settings()["MONGO_SESSIONS"]

    assert shown["CLIENT_OPTIONS"]["username"] == "site"
    assert "S3CRET" not in str(shown)


def test_djangos_error_pages_mask_the_keys_that_encrypt(settings):
    settings.MONGO_SESSIONS = {"ENCRYPTION_KEYS": ["S3CRET"]}

    shown = SafeExceptionReporterFilter().get_safe_settings()["MONGO_SESSIONS"]

    assert "S3CRET" not in str(shown)


def test_a_name_is_refused_as_pymongo_would():
    with MongoClient(connect=False) as client:
        for name in BAD_DATABASES:
            with pytest.raises(InvalidName):
                client[name]
        for name in BAD_COLLECTIONS:
            with pytest.raises(InvalidName):
                client["site"][name]
        for name in VALUES["COLLECTION"][0]:
            assert client["a-b:c*é"][name].name == name


# The engine that a site had before


@pytest.mark.parametrize(
    "given", ["2027-01-15", date(2027, 1, 15), datetime(2027, 1, 15, 23, 59, tzinfo=timezone.utc)]
)
def test_the_day_from_which_an_old_engine_is_not_asked_begins_in_utc(settings, given):
    settings.MONGO_SESSIONS = {"PREDECESSOR_UNTIL": given}

    assert conf.predecessor_until() == datetime(2027, 1, 15, tzinfo=timezone.utc)


@pytest.mark.parametrize("given", [None, "", "soon", "2027-02-30"])
def test_a_day_that_is_none_is_refused(settings, given):
    settings.MONGO_SESSIONS = {"PREDECESSOR_UNTIL": given}

    with pytest.raises(ImproperlyConfigured, match="PREDECESSOR_UNTIL"):
        conf.predecessor_until()


def test_the_class_of_an_old_engine_is_imported(settings):
    settings.MONGO_SESSIONS = {"PREDECESSOR": "django.contrib.sessions.backends.db"}

    assert conf.predecessor_class() is Database


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("no.such.engine", "No module"),
        ("django.contrib.sessions.models", "SessionStore"),
        ("tests.test_conf", "no session store"),
        ("django_mongo_sessions.backends.mongodb", "is this engine"),
        ("tests.engine.derived", "is this engine"),
    ],
)
def test_what_cannot_be_an_old_engine_is_refused(settings, given, problem):
    settings.MONGO_SESSIONS = {"PREDECESSOR": given}

    with pytest.raises(ImproperlyConfigured, match=problem):
        conf.predecessor_class()


SessionStore = "no class"

# Functions


async def slowly(given):
    """Where an ordinary function belongs."""


class Slow:
    async def __call__(self, given):
        """The same as an object."""


@pytest.mark.parametrize("given", [None, 3, str.upper])
def test_a_value_that_is_no_path_is_returned_as_it_is(settings, given):
    settings.MONGO_SESSIONS = {"MAX_SESSIONS": given}

    assert conf.function("MAX_SESSIONS") is given


def test_a_path_is_imported(settings):
    settings.MONGO_SESSIONS = {"MAX_SESSIONS": "pymongo.MongoClient"}

    assert conf.function("MAX_SESSIONS") is MongoClient


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no.such.function", "No module"),
        ("pymongo.no_such_function", "no_such_function"),
        ("pymongo.version", "pymongo.version cannot be called"),
        ("failing_module.function", "its own reason"),
        (slowly, "is a coroutine function"),
        (Slow(), "is a coroutine function"),
        (f"{__name__}.slowly", "is a coroutine function"),
    ],
)
def test_what_is_no_function_is_refused_with_the_name_of_the_key(
    settings, tmp_path, monkeypatch, given, words
):
    (tmp_path / "failing_module.py").write_text("raise ValueError('its own reason')")
    monkeypatch.syspath_prepend(tmp_path)
    settings.MONGO_SESSIONS = {"MAX_SESSIONS": given}

    with pytest.raises(ImproperlyConfigured, match=words) as refused:
        conf.function("MAX_SESSIONS")

    assert "MONGO_SESSIONS['MAX_SESSIONS']" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "of_sealed", "of_encrypted"), [(None, 4096, False), (100, 100, 100), (0, 0, 0)]
)
def test_what_is_encrypted_is_compressed_only_if_a_site_says_so(
    settings, given, of_sealed, of_encrypted
):
    settings.MONGO_SESSIONS = {"COMPRESS": given}

    assert conf.compress_from(encrypts=False) == of_sealed
    assert conf.compress_from(encrypts=True) == of_encrypted


@pytest.mark.parametrize(
    ("given", "mode", "encrypts"),
    [
        ({}, None, False),
        ({"ENCRYPTION_KEYS": []}, "only", True),  # and no key is an error
        ({"ENCRYPTION_KEYS": ["a"]}, "only", True),
        ({"ENCRYPTION_KEYS": ["a"], "ENCRYPTION": "prepare"}, "prepare", False),
        ({"ENCRYPTION_KEYS": ["a"], "ENCRYPTION": "transition"}, "transition", True),
    ],
)
def test_with_keys_sessions_are_encrypted(settings, given, mode, encrypts):
    settings.MONGO_SESSIONS = given

    assert conf.encryption == mode
    assert conf.encrypts is encrypts


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"ENCRYPTION": "only"}, "has ENCRYPTION, but no ENCRYPTION_KEYS"),
        ({"ENCRYPTION_KEYS": ["a"], "ENCRYPTION": "Only"}, 'accepts "prepare", "transition"'),
    ],
)
def test_nothing_is_stored_in_plain_text_by_mistake(settings, given, problem):
    settings.MONGO_SESSIONS = given

    with pytest.raises(ImproperlyConfigured, match=problem):
        assert conf.encryption
