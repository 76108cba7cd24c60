"""A document that cannot be read is not a session, and is kept."""

import logging
from datetime import timedelta

import pytest
from bson.binary import UUID_SUBTYPE, Binary
from django.contrib.sessions.serializers import JSONSerializer

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import codec, documents
from tests.conftest import collection, count_sessions
from tests.engine.helpers import change_document, loaded, the_document


def broken(how):
    """Break the only document in this way."""
    payload = the_document()["payload"]
    if how == "forged":
        change_document(payload=payload[:-1] + bytes([payload[-1] ^ 1]))
    elif how == "cut short":
        change_document(payload=payload[:-1])
    elif how == "empty":
        change_document(payload=b"")
    elif how == "another form":
        change_document(payload=b"\x02" + payload[1:])
    elif how == "moved in time":
        change_document(created_at=the_document()["created_at"] - timedelta(seconds=1))
    elif how in REVISIONS:
        change_document(revision=REVISIONS[how])
    elif how == "short write_id":
        change_document(write_id=b"short")
    elif how.startswith("no "):
        collection().update_one({}, {"$unset": {how[3:]: True}})
    else:
        change_document(**{how.partition(" ")[0]: "text"})


# Too large for a save to increase it.
REVISIONS = {"revision too large": 2**63 - 1, "revision too small": -2}
HOW = ["forged", "cut short", "empty", "another form", "moved in time", "short write_id"]
HOW += REVISIONS
HOW += [f"no {name}" for name in documents._FIELDS]
HOW += [f"{name} of text" for name in documents._FIELDS]


def test_secret_keys_are_rotated_in_two_deployments(do, stored, settings):
    store = stored(a=1)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert loaded(do, store) == {"a": 1}

    do(SessionStore(store.session_key), "save")

    settings.SECRET_KEY_FALLBACKS = []
    assert loaded(do, store) == {"a": 1}


@pytest.mark.parametrize("how", HOW)
def test_a_broken_document_reads_as_empty_and_keeps_its_key(do, stored, logged, how):
    key = stored(a=1).session_key
    broken(how)
    before = the_document()
    store = SessionStore(key)

    assert do(store, "_get_session") == {}
    assert store.session_key == key
    assert do(store, "load") == {}
    [record] = logged()
    assert record.levelno == logging.WARNING
    assert documents.document_id(key).hex() in record.getMessage()
    assert key not in record.getMessage()

    do(store, "save")
    assert the_document() == before

    store["b"] = 2
    do(store, "save")
    assert store.session_key != key
    assert loaded(do, store) == {"b": 2}
    assert collection().find_one({"_id": before["_id"]}) == before


@pytest.mark.only("mongod")
@pytest.mark.parametrize("name", documents._FIELDS)
def test_a_field_that_pymongo_cannot_decode_counts_as_one_of_a_wrong_type(
    do, stored, logged, settings, name
):
    key = stored(a=1).session_key
    change_document(**{name: Binary(b"short", UUID_SUBTYPE)})
    options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "uuidRepresentation": "standard"}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}
    store = SessionStore(key)

    assert do(store, "exists", key)
    assert do(store, "_get_session") == {}
    assert store.session_key == key
    assert len(logged()) == 1

    do(store, "flush")
    assert count_sessions() == 0


@pytest.mark.only("mongod")
def test_a_field_of_the_projects_own_that_pymongo_cannot_decode_does_no_harm(
    do, stored, logged, settings
):
    key = stored(a=1).session_key
    change_document(account=Binary(b"short", UUID_SUBTYPE))
    options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "uuidRepresentation": "standard"}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}
    store = SessionStore(key)

    assert loaded(do, store) == {"a": 1}

    store["b"] = 2
    do(store, "save")
    assert loaded(do, SessionStore(key)) == {"a": 1, "b": 2}
    assert logged() == []


def test_a_payload_of_another_session_does_not_open(do, stored, logged):
    mine, other = stored(a=1), stored(b=2)
    documents_ = {document["_id"]: document for document in collection().find({})}
    theirs = documents_[documents.document_id(other.session_key)]
    collection().update_one(
        {"_id": documents.document_id(mine.session_key)},
        {"$set": {name: theirs[name] for name in theirs if name != "_id"}},
    )

    assert loaded(do, mine) == {}
    assert loaded(do, other) == {"b": 2}
    assert len(logged()) == 1


def test_a_host_with_another_secret_key_signs_no_user_out(do, stored, settings):
    store = stored(a=1)
    with_right_key = settings.SECRET_KEY

    settings.SECRET_KEY = "wrong"
    assert loaded(do, store) == {}
    settings.SECRET_KEY = with_right_key

    assert loaded(do, store) == {"a": 1}


def test_a_document_that_another_serializer_wrote_does_not_open(do, stored):
    class Reversed(JSONSerializer):
        def dumps(self, data):
            return super().dumps(data)[::-1]

    store = SessionStore()
    store.serializer = Reversed
    store["a"] = 1
    do(store, "save")

    assert loaded(do, store) == {}


def test_a_document_that_breaks_between_load_and_save_is_left_alone(do, stored):
    store = stored(a=1)
    key = store.session_key
    broken("write_id of text")
    store["a"] = 2

    do(store, "save")

    assert store.session_key != key
    assert loaded(do, store) == {"a": 2}
    assert count_sessions() == 2


def test_a_touch_of_a_document_that_broke_sends_nothing(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    broken("write_id of text")
    before = the_document()

    do(store, "save")

    assert the_document() == before


def test_cycle_key_leaves_a_document_that_does_not_open(do, stored):
    key = stored(a=1).session_key
    broken("forged")
    store = SessionStore(key)

    do(store, "cycle_key")

    assert store.session_key != key
    assert count_sessions() == 2


@pytest.mark.parametrize("verb", ["delete", "flush"])
def test_a_session_that_does_not_open_can_be_deleted(do, stored, verb):
    store = SessionStore(stored(a=1).session_key)
    broken("forged")

    do(store, verb)

    assert count_sessions() == 0


def test_the_data_gets_a_new_key_if_the_newest_document_does_not_open(do, two, held):
    earlier, later = two(a=1)
    earlier["b"] = 2
    do(earlier, "save")
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})
    later["c"] = 3
    old = later.session_key

    do(later, "save")

    assert later.session_key != old
    assert held(later) == {"a": 1, "c": 3}
    assert collection().count_documents({"payload": b"\x01forged"}) == 1


def test_a_move_leaves_a_document_that_no_longer_opens(do, two, held):
    login, other = two(a=1)
    other["b"] = 2
    do(other, "save")
    collection().update_one({}, {"$set": {"payload": b"\x01forged"}})

    do(login, "cycle_key")

    assert held(login) == {"a": 1}
    assert collection().count_documents({"payload": b"\x01forged"}) == 1


def test_an_empty_fallback_key_opens_nothing(do, stored, settings, logged):
    settings.SECRET_KEY_FALLBACKS = [""]
    store = stored(a=1)
    document = the_document()
    binding = documents.binding(document["_id"], document["created_at"])
    change_document(payload=codec.seal(b'{"a":2}', binding, "", False))

    assert loaded(do, store) == {}
    assert len(logged()) == 1
