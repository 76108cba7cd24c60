"""What is stored of a sign-in and of its client travels with writes that happen anyway."""

import itertools
from datetime import timedelta

import pytest
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import documents
from tests.conftest import SESSIONS, collection
from tests.engine.helpers import change_document, the_document

SIGNED_IN = {SESSION_KEY: "7", HASH_SESSION_KEY: "a hash of the password"}
FIREFOX = {"user_agent": "Firefox/140.0", "address": "203.0.113.7"}
CHROME = {"user_agent": "Chrome/141.0", "address": "2001:db8::7"}


class Browser:
    """A client, as the middleware describes it."""

    request = None

    def __init__(self, known):
        self.known = known

    def describe(self):
        return self.known


def used_by(session, known):
    session._client = Browser(known)
    return session


def recorded():
    """Return what is recorded in the only session."""
    return documents.recorded(the_document())


@pytest.fixture
def record(settings):
    """`record(**keys)` sets what is recorded; by default, all there is."""

    def record(user_agent=True, address="full"):
        given = {"USER_AGENT": user_agent, "ADDRESS": address}
        settings.MONGO_SESSIONS.update(given)

    return record


@pytest.fixture
def firefox(do, record):
    """A session that Firefox has stored."""
    record()
    session = used_by(SessionStore(), FIREFOX)
    session["a"] = 1
    do(session, "save")
    return session


@pytest.fixture
def chrome(do, firefox):
    """The same session in a request of another browser, which has read it."""
    session = used_by(SessionStore(firefox.session_key), CHROME)
    do(session, "_get_session")
    return session


# With which writes


def test_the_first_save_records_the_client(firefox):
    assert recorded() == FIREFOX


@pytest.mark.parametrize("verb", ["create", "save"])
def test_a_session_without_a_key_records_it_too(do, record, verb):
    record()
    session = used_by(SessionStore(), FIREFOX)
    session["a"] = 1

    do(session, verb)

    assert recorded() == FIREFOX


def test_a_save_records_it(do, chrome):
    chrome["b"] = 2

    do(chrome, "save")

    assert recorded() == CHROME


def test_mutate_records_it(do, chrome):
    do(chrome, "mutate", lambda data: data.update(b=2))

    assert recorded() == CHROME


def test_a_save_of_unchanged_data_records_it_and_sends_no_payload(do, chrome):
    before = the_document()

    do(chrome, "save")

    after = the_document()
    assert recorded() == CHROME
    kept = ("payload", "revision", "write_id", "created_at")
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_a_touch_records_it_and_sends_no_payload(do, chrome):
    before = the_document()

    assert do(chrome, "_touch")

    after = the_document()
    assert recorded() == CHROME
    kept = ("payload", "revision", "write_id", "created_at")
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_a_new_key_records_it(do, chrome):
    do(chrome, "cycle_key")

    assert recorded() == CHROME


def test_a_save_that_another_request_has_overtaken_records_it(do, chrome, firefox):
    firefox["b"] = 2
    do(firefox, "save")
    chrome["c"] = 3

    do(chrome, "save")

    assert recorded() == CHROME
    assert do(SessionStore(chrome.session_key), "load") == {"a": 1, "b": 2, "c": 3}


# With no write of its own


def test_another_client_is_no_change_of_the_session(do, chrome):
    assert not chrome.modified
    do(chrome, "_get_session")

    assert not chrome.modified
    assert recorded() == FIREFOX


@pytest.mark.only("mongod")
def test_another_client_is_no_reason_to_save_again(do, record, commands):
    record()
    session = used_by(SessionStore(), FIREFOX)
    session["a"] = 1
    do(session, "save")
    commands.names()
    used_by(session, CHROME)

    do(session, "save")

    assert commands.names() == []
    assert recorded() == FIREFOX


@pytest.mark.only("mongod")
def test_what_is_recorded_costs_no_command(do, settings, record, commands):
    def write():
        session = used_by(SessionStore(), FIREFOX)
        session.update(SIGNED_IN)
        do(session, "save")
        other = used_by(SessionStore(session.session_key), CHROME)
        do(other, "_touch")
        other["b"] = 2
        do(other, "save")
        do(other, "cycle_key")
        do(other, "mutate", lambda data: data.update(b=3))
        do(other, "_get_session")
        return commands.names()

    write()  # which opens the connections
    without = write()
    record()

    assert write() == without


@pytest.mark.parametrize("kept", [True, False])
def test_a_touch_of_another_client_moves_the_expiry_as_any_other(do, chrome, firefox, kept):
    day = timedelta(days=1)
    before = the_document()
    change_document(expires_at=before["expires_at"] - day, seen_at=before["seen_at"] - day)
    reader = used_by(SessionStore(firefox.session_key), FIREFOX if kept else CHROME)
    do(reader, "_get_session")

    do(reader, "_touch")

    after = the_document()
    assert after["expires_at"] - after["seen_at"] == timedelta(days=14)
    assert after["created_at"] == before["created_at"]


def test_the_absolute_age_holds_with_another_client(do, settings, chrome):
    settings.MONGO_SESSIONS["ABSOLUTE_AGE"] = 60

    do(chrome, "_touch")

    after = the_document()
    assert after["expires_at"] == after["created_at"] + timedelta(seconds=60)


# What is not known, or not wanted


@pytest.mark.parametrize("known", [None, {}], ids=["no request", "a request that has ended"])
@pytest.mark.parametrize("verb", ["save", "_touch", "cycle_key"])
def test_without_a_client_the_fields_stay(do, firefox, verb, known):
    script = SessionStore(firefox.session_key)
    if known is not None:
        used_by(script, known)
    do(script, "_get_session")
    if verb == "save":
        script["b"] = 2

    do(script, verb)

    assert recorded() == FIREFOX


def test_what_is_not_known_of_a_client_is_removed(do, chrome):
    used_by(chrome, {"user_agent": None, "address": "203.0.113.9"})

    do(chrome, "_touch")

    assert recorded() == {"address": "203.0.113.9"}


TURNED_OFF = [
    ({"user_agent": False}, ["address"]),
    ({"address": None}, ["user_agent"]),
    ({"user_agent": False, "address": None}, []),
]


@pytest.mark.parametrize("verb", ["save", "_touch", "cycle_key", "mutate"])
def test_what_is_turned_off_is_removed_with_the_next_write(do, firefox, record, verb):
    key, changes = firefox.session_key, itertools.count()

    for (keys, left), has_client in itertools.product(TURNED_OFF, [True, False]):
        collection().update_one(SESSIONS, {"$set": FIREFOX})
        record(**keys)
        session = SessionStore(key)
        if has_client:
            used_by(session, {name: FIREFOX[name] for name in left})
        do(session, "_get_session")

        update = [lambda data: data.update(b=next(changes))]
        do(session, verb, *(update if verb == "mutate" else []))

        assert recorded() == {name: FIREFOX[name] for name in left}, (keys, has_client)
        key = session.session_key


def test_by_default_nothing_of_the_client_is_stored(do, stored):
    session = used_by(SessionStore(), {})
    session["a"] = 1
    do(session, "save")

    assert recorded() == {}


# The sign-in


def test_a_sign_in_records_a_part_of_the_hash_of_the_password(do, stored):
    stored(**SIGNED_IN)

    assert recorded() == {"auth_hash": documents.hash_of(SIGNED_IN[HASH_SESSION_KEY])}
    assert len(recorded()["auth_hash"]) == 16


@pytest.mark.parametrize("given", [None, 7, ["a hash"]])
def test_a_hash_that_is_no_text_is_not_recorded(do, stored, given):
    stored(**{**SIGNED_IN, HASH_SESSION_KEY: given})

    assert recorded() == {}


def test_a_new_password_is_recorded_with_the_save(do, stored):
    session = stored(**SIGNED_IN)
    session[HASH_SESSION_KEY] = "another hash"

    do(session, "save")

    assert recorded() == {"auth_hash": documents.hash_of("another hash")}


@pytest.mark.parametrize("verb", ["_touch", "save", "cycle_key"])
def test_a_session_of_an_older_version_gets_its_hash_with_the_next_write(do, stored, verb):
    key = stored(**SIGNED_IN).session_key
    collection().update_one({}, {"$unset": {"auth_hash": True}})
    session = SessionStore(key)
    do(session, "_get_session")

    do(session, verb)

    assert recorded() == {"auth_hash": documents.hash_of(SIGNED_IN[HASH_SESSION_KEY])}


def test_a_sign_out_that_does_not_flush_removes_the_hash(do, stored):
    session = stored(**SIGNED_IN, a=1)
    for name in SIGNED_IN:
        del session[name]

    do(session, "save")

    assert recorded() == {}
    assert "user_id" not in the_document()


def test_a_new_key_carries_the_hash(do, stored):
    session = stored(**SIGNED_IN)

    do(session, "cycle_key")

    assert recorded() == {"auth_hash": documents.hash_of(SIGNED_IN[HASH_SESSION_KEY])}


class Impersonated(SessionStore):
    """A project's own way to say who uses a session in a user's name."""

    def impersonator_id(self, data):
        return data.get("staff")


def test_who_uses_a_session_in_the_users_name_is_recorded(do, stored):
    session = stored(**SIGNED_IN, hijack_history=["3", "4"])
    assert recorded()["impersonator_id"] == "3"

    del session["hijack_history"]
    do(session, "save")
    assert "impersonator_id" not in recorded()


@pytest.mark.parametrize("history", [[], None, "3", {"3": 4}, 0])
def test_what_is_no_history_names_nobody(history):
    assert SessionStore().impersonator_id({"hijack_history": history}) is None


@pytest.mark.parametrize(("given", "shown"), [(3, "3"), ("3", "3"), (0, "0")])
def test_a_project_may_say_who_it_is_as_text_or_as_a_number(do, stored, given, shown):
    session = stored(Impersonated, **SIGNED_IN, staff=given)
    assert recorded()["impersonator_id"] == shown

    do(session, "cycle_key")
    assert recorded()["impersonator_id"] == shown


@pytest.mark.parametrize("name", documents.RECORDED)
def test_a_projects_field_cannot_have_the_name_of_a_recorded_one(do, stored, name):
    class Wrong(SessionStore):
        def to_document(self, data):
            return {name: "7"}

    with pytest.raises(ValueError, match=repr(name)):
        stored(Wrong)

    assert collection().count_documents({}) == 0


def test_a_projects_own_fields_stay_beside_them(do, record):
    class Accounts(SessionStore):
        def to_document(self, data):
            return {"account_id": data.get("account")}

    record()
    session = used_by(Accounts(), FIREFOX)
    session["account"] = 7
    do(session, "save")
    used_by(session, CHROME)
    session["account"] = 8

    do(session, "save")

    assert recorded() == CHROME
    assert the_document()["account_id"] == 8
