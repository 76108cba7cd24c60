"""What releases have stored opens, as docs/versions.md promises: by frozen documents."""

import json
from pathlib import Path

import pytest
from bson import json_util

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import codec, documents
from tests.conftest import collection, encrypt_with

FROZEN = json.loads((Path(__file__).parents[1] / "vectors" / "documents.json").read_text())
SESSIONS = {each["name"]: each for each in FROZEN["sessions"]}


def document(of):
    return json_util.loads(of["document"], json_options=json_util.JSONOptions(tz_aware=True))


@pytest.fixture
def keys(settings, monkeypatch):
    settings.SECRET_KEY = FROZEN["secret_key"]
    encrypt_with(monkeypatch, FROZEN["encryption_key"], mode="transition")


@pytest.mark.parametrize("name", SESSIONS)
def test_a_document_of_an_earlier_release_opens_and_can_be_saved(mongod_engine, keys, name):
    frozen = SESSIONS[name]
    # What a later release may have added stays, and changes nothing.
    collection().insert_one({**document(frozen), "of_a_later_release": 1})

    session = SessionStore(frozen["session_key"])
    assert session.load() == frozen["data"]
    session["more"] = 1
    session.save()

    assert SessionStore(frozen["session_key"]).load() == {**frozen["data"], "more": 1}
    assert collection().find_one()["of_a_later_release"] == 1


def test_a_pointer_of_an_earlier_release_leads_where_it_led():
    moved = FROZEN["moved"]
    found = document(moved)
    binding = documents.binding(found["_id"], found["created_at"])

    target = codec.unseal_pointer(found["payload"], binding, [FROZEN["secret_key"]])

    assert target.hex() == moved["to"]
    assert found["revision"] == -1


def test_each_form_is_frozen():
    forms = {document(each)["payload"][:1] for each in [*SESSIONS.values(), FROZEN["moved"]]}

    assert forms == {codec.PLAIN, codec.DEFLATED, codec.UNBOUND, codec.BOUND, codec.MOVED}


def test_a_form_of_a_later_release_is_left_alone(mongod_engine, keys):
    frozen = SESSIONS["sealed"]
    later = document(frozen)
    binding = documents.binding(later["_id"], later["created_at"])
    later["payload"] = codec._close(b"\x06", b"new", binding, FROZEN["secret_key"])
    collection().insert_one(later)

    session = SessionStore(frozen["session_key"])
    assert session.load() == {}
    session["more"] = 1
    session.save()

    assert session.session_key != frozen["session_key"]
    assert bytes(collection().find_one({"_id": later["_id"]})["payload"]) == later["payload"]
