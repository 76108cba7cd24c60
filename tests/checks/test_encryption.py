"""What the checks say of the keys that encrypt sessions, and of what they encrypt."""

import sys

import cryptography
import pytest
from django.core.checks import Tags

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import keyring
from tests.checks.helpers import said
from tests.conftest import collection

OLD, NEW = "a1" * 31 + "00", "b2" * 31 + "00"


def keys_of_a_vault():
    raise AssertionError("called before it is needed")


async def awaitable_keys():
    return [NEW]


def use(settings, **given):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **given}


def save(settings, **given):
    use(settings, **given)
    store = SessionStore()
    store["a"] = 1
    store.save()
    return store


@pytest.mark.parametrize(
    "given",
    [
        {"ENCRYPTION_KEYS": [OLD, NEW]},
        {"ENCRYPTION_KEYS": [OLD], "ENCRYPTION": "prepare", "COMPRESS": 100},
        {"ENCRYPTION_KEYS": [OLD], "COMPRESS": False},
        {"ENCRYPTION_KEYS": keys_of_a_vault},
        {"ENCRYPTION_KEYS": f"{__name__}.keys_of_a_vault"},
    ],
)
def test_correct_keys_have_no_findings(settings, no_connection, given):
    use(settings, **given)

    assert said() == {}


@pytest.mark.parametrize(
    ("id", "given", "words"),
    [
        ("E003", {"ENCRYPTION_KEYS": OLD}, "does not accept the str"),
        ("E003", {"ENCRYPTION_KEYS": [OLD], "ENCRYPTION": "yes"}, "does not accept the str"),
        ("E016", {"ENCRYPTION_KEYS": []}, "an empty list"),
        ("E016", {"ENCRYPTION_KEYS": [NEW, OLD[1:]]}, "[1] is not a key"),
        ("E016", {"ENCRYPTION_KEYS": f"{__name__}.nothing"}, "nor an ordinary function"),
        ("E016", {"ENCRYPTION_KEYS": awaitable_keys}, "nor an ordinary function"),
        ("E017", {"ENCRYPTION": "only"}, "no ENCRYPTION_KEYS"),
        ("W024", {"ENCRYPTION_KEYS": [OLD], "COMPRESS": 0}, "length"),
    ],
)
def test_a_wrong_setting_is_found(settings, no_connection, id, given, words):
    use(settings, **given)

    found = said()
    assert set(found) == {id}
    assert words in found[id].msg
    assert OLD[1:] not in found[id].msg


def test_a_missing_package_is_named(settings, monkeypatch):
    use(settings, ENCRYPTION_KEYS=[OLD])
    keyring.cipher.cache_clear()
    monkeypatch.setattr(cryptography, "__version__", "41.0.7")

    assert "42 or later" in said()["E015"].msg
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert "cannot be imported" in said()["E015"].msg
    keyring.cipher.cache_clear()


def test_an_unreadable_file_is_named(settings, tmp_path):
    use(settings, ENCRYPTION_KEYS=[tmp_path / "key"])

    assert str(tmp_path / "key") in said()["E016"].msg


@pytest.mark.parametrize(
    ("given", "is_found"),
    [
        ({}, False),
        ({"ENCRYPTION_KEYS": [OLD]}, False),
        ({"ENCRYPTION_KEYS": [OLD], "ENCRYPTION": "transition"}, True),
        ({"ENCRYPTION_KEYS": [OLD], "ENCRYPTION": "prepare"}, True),
        ({"ENCRYPTION": "prepare"}, False),  # which is an error already
    ],
)
def test_in_the_end_only_encrypted_sessions_should_open(settings, given, is_found):
    use(settings, **given)

    assert ("W023" in said(include_deployment_checks=True, tags=[Tags.security])) == is_found


# What is stored

pytestmark = pytest.mark.django_db


def found_in_database():
    found = said(databases=["default"])
    return {id: message for id, message in found.items() if id != "W011"}


def test_sessions_that_are_not_encrypted_are_counted(mongod_engine, settings):
    save(settings)
    use(settings, ENCRYPTION_KEYS=[NEW], ENCRYPTION="transition")
    assert found_in_database() == {}

    use(settings, ENCRYPTION="only")
    assert "1 are not encrypted" in found_in_database()["E018"].msg


def test_keys_that_are_taken_out_too_early_are_found(mongod_engine, settings):
    save(settings, ENCRYPTION_KEYS=[OLD])
    save(settings, ENCRYPTION_KEYS=[NEW])
    use(settings, ENCRYPTION_KEYS=[NEW, OLD])
    assert found_in_database() == {}

    use(settings, ENCRYPTION_KEYS=[NEW])
    assert keyring.read([OLD]).ids()[0] in found_in_database()["W025"].msg
    use(settings, ENCRYPTION_KEYS=None)
    found = found_in_database()
    assert set(found) == {"E018"}
    assert "2 are encrypted" in found["E018"].msg


def test_a_made_up_id_is_not_shown(mongod_engine, settings):
    save(settings, ENCRYPTION_KEYS=[OLD])
    save(settings)
    for number, made_up in enumerate(["\x1b[2J", {"a": 1}]):
        document = collection().find_one({}, skip=number)
        collection().update_one({"_id": document["_id"]}, {"$set": {"key_id": made_up}})

    assert "does not have: ?." in found_in_database()["W025"].msg


def test_a_source_that_fails_is_not_taken_for_mongodb(mongod_engine, settings):
    use(settings, ENCRYPTION_KEYS=lambda: 1 / 0)

    found = found_in_database()
    assert set(found) == {"E016"}
    assert "ZeroDivisionError" in found["E016"].msg
