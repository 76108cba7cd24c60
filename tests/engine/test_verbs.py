"""What every verb does, in each colour, on a real mongod and on mongomock."""

import logging
from datetime import datetime, timedelta, timezone

import pytest
from bson.binary import UUID_SUBTYPE, Binary
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.serializers import JSONSerializer
from pymongo.errors import DocumentTooLarge, DuplicateKeyError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import deleting, loading, session
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection

UNKNOWN = "0123456789abcdefghijklmnopqrstuv"
SECURITY = "django.security.SuspiciousSession"
MALFORMED = [
    "x" * 1_000_000,
    "12345678\0" + UNKNOWN,
    "\U0001f36a" * 32,
    "\ud800" * 32,
    '{"$ne": null}' + UNKNOWN,
    documents.document_id(UNKNOWN).hex(),
    UNKNOWN.upper(),
]


def the_document():
    """Return the only document there is."""
    [document] = collection().find({})
    return document


def change_document(**fields):
    collection().update_one({}, {"$set": fields})


def expire(store):
    past = dates.utc_now() - timedelta(seconds=1)
    collection().update_one(
        {"_id": documents.document_id(store.session_key)}, {"$set": {"expires_at": past}}
    )


def loaded(do, store):
    """Return the data of another store on the same session."""
    return do(SessionStore(store.session_key), "_get_session")


# Reading


def test_a_saved_session_is_loaded_by_another_store(do, stored):
    store = stored(book="Sherlock Holmes", pages=[1, 2])

    assert loaded(do, store) == {"book": "Sherlock Holmes", "pages": [1, 2]}
    assert do(SessionStore(store.session_key), "load") == loaded(do, store)


def test_the_document_is_as_the_design_says(do, stored):
    store = stored(book="Sherlock Holmes")

    document = the_document()

    assert document["_id"] == documents.document_id(store.session_key)
    assert isinstance(document["payload"], bytes)
    assert document["revision"] == 0
    assert document["created_at"] == document["seen_at"]
    age = document["expires_at"] - document["created_at"]
    assert age == timedelta(seconds=store.get_session_cookie_age())
    assert set(document) == {
        "_id",
        "payload",
        "expires_at",
        "created_at",
        "seen_at",
        "revision",
    }


def test_an_unknown_key_is_dropped_and_makes_no_document(do):
    store = SessionStore(UNKNOWN)

    assert do(store, "_get_session") == {}
    assert store.session_key is None
    assert collection().count_documents({}) == 0


@pytest.mark.parametrize("key", MALFORMED, ids=lambda key: ascii(key)[:20])
def test_a_malformed_key_is_an_unknown_session(do, key):
    store = SessionStore(key)

    assert not do(store, "exists", key)
    do(store, "delete", key)
    assert do(store, "_get_session") == {}
    assert store.session_key is None
    store = SessionStore(key)
    with pytest.raises(CreateError):
        do(store, "save", must_create=True)
    assert collection().count_documents({}) == 0


def test_nothing_exists_without_a_key(do):
    assert do(SessionStore(), "exists", None) is False
    do(SessionStore(), "delete")


def test_an_expired_session_is_not_there_though_nobody_has_removed_it(do, stored):
    store = stored(a=1)
    assert do(store, "exists", store.session_key)

    expire(store)

    assert loaded(do, store) == {}
    assert not do(store, "exists", store.session_key)


def test_a_session_that_another_task_loaded_meanwhile_is_kept(do, stored):
    store = SessionStore(stored(a=1).session_key)
    slower = loading.data(
        store,
    )
    operation = next(slower)

    do(store, "_get_session")["b"] = 2
    with pytest.raises(StopIteration):
        slower.send(operation.read(operation.call(collection())))

    assert store._session_cache == {"a": 1, "b": 2}


def test_a_load_in_flight_does_not_drop_the_key_that_another_task_has_moved_to(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    slower = loading.data(
        store,
    )
    operation = next(slower)

    do(store, "cycle_key")
    with pytest.raises(StopIteration):
        slower.send(operation.read(operation.call(collection())))

    assert loaded(do, store) == {"_auth_user_id": "1"}


# Saving


def test_a_change_is_saved_under_the_same_key(do, stored):
    store = SessionStore(stored(a=1, b=1).session_key)
    created_at = the_document()["created_at"]
    data = do(store, "_get_session")
    data["a"], data["c"] = 2, 3
    del data["b"]

    do(store, "save")

    assert loaded(do, store) == {"a": 2, "c": 3}
    assert the_document()["revision"] == 1
    assert the_document()["created_at"] == created_at


def test_a_change_inside_a_value_is_saved(do, stored):
    store = SessionStore(stored(cart=[1]).session_key)
    do(store, "_get_session")["cart"].append(2)

    do(store, "save")

    assert loaded(do, store) == {"cart": [1, 2]}


def test_equal_values_of_other_types_are_a_change(do, stored):
    store = SessionStore(stored(flag=1).session_key)
    do(store, "_get_session")["flag"] = True

    do(store, "save")

    assert loaded(do, store)["flag"] is True


def test_saving_twice_saves_the_second_change_too(do, stored):
    store = stored(a=1)
    for value in (2, 3):
        store["a"] = value
        do(store, "save")

    assert loaded(do, store) == {"a": 3}
    assert the_document()["revision"] == 2


def test_a_save_without_a_change_moves_the_expiry_alone(do, stored):
    store = SessionStore(stored(a=1).session_key)
    soon = dates.utc_now() + timedelta(minutes=1)
    change_document(expires_at=soon, seen_at=soon - timedelta(days=1))
    before = the_document()

    do(store, "save")

    after = the_document()
    assert after["expires_at"] > before["expires_at"]
    assert after["seen_at"] > before["seen_at"]
    assert after["payload"] == before["payload"]
    assert after["revision"] == before["revision"]


def test_a_save_without_a_change_is_nothing_just_after_a_write_of_its_own(do, stored):
    store = stored(a=1)
    soon = dates.utc_now() + timedelta(minutes=1)
    change_document(expires_at=soon)

    do(store, "save")
    assert the_document()["expires_at"] == soon

    store._known.last_write -= session.WRITE_INTERVAL
    do(store, "save")
    assert the_document()["expires_at"] > soon


def test_a_touch_does_not_undo_what_another_store_has_saved_meanwhile(do, stored):
    poll = SessionStore(stored(a=1).session_key)
    do(poll, "_get_session")
    other = SessionStore(poll.session_key)
    do(other, "_get_session")["b"] = 2
    other.set_expiry(60)
    do(other, "save")

    do(poll, "save")

    assert loaded(do, poll) == {"a": 1, "b": 2, "_session_expiry": 60}
    assert the_document()["expires_at"] < dates.utc_now() + timedelta(seconds=61)


def test_a_load_on_the_side_does_not_hide_a_race(do, stored):
    first = stored(a=1)
    second = SessionStore(first.session_key)
    do(second, "_get_session")["b"] = 2
    do(second, "save")

    assert do(first, "load") == {"a": 1, "b": 2}

    assert first._known.snapshot.revision == 0
    assert first._session_cache == {"a": 1}


def test_saving_after_clear_stores_nothing_else(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    store.clear()
    store["b"] = 2

    do(store, "save")

    assert loaded(do, store) == {"b": 2}


def test_saving_after_clear_before_any_load_stores_nothing_else(do, stored):
    store = SessionStore(stored(a=1).session_key)
    store.clear()
    store["b"] = 2

    do(store, "save")

    assert loaded(do, store) == {"b": 2}
    assert the_document()["revision"] == 1


def test_a_session_deleted_meanwhile_is_not_raised_from_the_dead(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")["a"] = 2
    do(SessionStore(store.session_key), "delete")

    with pytest.raises(UpdateError):
        do(store, "save")

    assert collection().count_documents({}) == 0


def test_neither_is_one_that_was_looked_for_on_the_side(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    do(store, "_get_session")["a"] = 2
    do(SessionStore(store.session_key), "flush")
    assert do(store, "load") == {}

    with pytest.raises(UpdateError):
        do(store, "save")

    assert collection().count_documents({}) == 0


def test_neither_is_one_whose_key_is_changed(do, stored):
    store = SessionStore(stored(_auth_user_id="1").session_key)
    do(store, "_get_session")
    do(SessionStore(store.session_key), "flush")

    with pytest.raises(UpdateError):
        do(store, "cycle_key")
    with pytest.raises(UpdateError):
        do(store, "save")

    assert collection().count_documents({}) == 0


def test_two_clicks_on_sign_in_may_both_change_the_key_of_an_anonymous_session(do, stored):
    key = stored(cart=[1]).session_key
    first, second = SessionStore(key), SessionStore(key)
    do(first, "_get_session")
    do(second, "_get_session")

    do(first, "cycle_key")
    do(second, "cycle_key")

    assert loaded(do, first) == loaded(do, second) == {"cart": [1]}


def test_neither_is_one_that_nothing_has_changed_in(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    do(SessionStore(store.session_key), "delete")

    with pytest.raises(UpdateError):
        do(store, "save")


def test_neither_is_one_that_this_store_has_deleted_itself(do, stored):
    store = stored(a=1)
    do(store, "delete")

    with pytest.raises(UpdateError):
        do(store, "save")


def test_neither_is_one_that_was_never_there(do):
    store = SessionStore(UNKNOWN)

    with pytest.raises(UpdateError):
        do(store, "save")

    store = SessionStore(UNKNOWN)
    store.clear()
    with pytest.raises(UpdateError):
        do(store, "save")


def test_a_save_after_the_stale_key_was_dropped_begins_a_new_session(do):
    store = SessionStore(UNKNOWN)
    do(store, "_get_session")["a"] = 1

    do(store, "save")

    assert store.session_key not in (None, UNKNOWN)
    assert loaded(do, store) == {"a": 1}


# Creating


def test_create_stores_the_session_under_a_new_key(do):
    store = SessionStore()

    do(store, "create")

    assert store.modified
    assert do(store, "exists", store.session_key)
    assert loaded(do, store) == {}


def test_must_create_stores_under_the_key_that_was_given(do):
    store = SessionStore(UNKNOWN)
    do(store, "save", must_create=True)

    assert store.session_key == UNKNOWN
    with pytest.raises(CreateError):
        do(SessionStore(UNKNOWN), "save", must_create=True)


def test_a_new_key_is_random_and_not_asked_for(do):
    assert len({do(SessionStore(), "_get_new_session_key") for _ in range(5)}) == 5


def test_a_key_that_is_taken_is_not_taken_twice(do, stored):
    taken = stored(a=1).session_key

    class Unlucky(SessionStore):
        keys = [taken, UNKNOWN]

        def _get_new_session_key(self):
            return self.keys.pop(0)

    store = Unlucky()
    do(store, "create")

    assert store.session_key == UNKNOWN
    assert do(SessionStore(taken), "_get_session") == {"a": 1}


def test_keys_that_are_always_taken_end_in_an_error(do, stored):
    taken = stored(a=1).session_key

    class Stuck(SessionStore):
        def _get_new_session_key(self):
            return taken

    with pytest.raises(CreateError, match="is taken"):
        do(Stuck(), "create")


@pytest.mark.only("mongod")
def test_somebody_elses_unique_index_is_named_and_not_tried_again(do, stored):
    collection().create_index([("sid", 1)], unique=True, name="sid_1")
    try:
        stored(a=1)

        with pytest.raises(DuplicateKeyError, match="sid_1"):
            stored(b=2)
    finally:
        collection().drop_index("sid_1")


# Deleting and moving


def test_delete_deletes_this_session_or_the_one_named(do, stored):
    first, second = stored(a=1), stored(b=2)

    do(first, "delete", second.session_key)
    assert loaded(do, second) == {}
    assert loaded(do, first) == {"a": 1}

    do(first, "delete")
    assert collection().count_documents({}) == 0


def test_cycle_key_moves_the_data_and_ends_the_old_key(do, stored):
    store = SessionStore(stored(a=1).session_key)
    old_key = store.session_key

    do(store, "cycle_key")

    assert store.session_key != old_key
    assert loaded(do, store) == {"a": 1}
    assert not do(store, "exists", old_key)
    assert the_document()["revision"] == 0
    assert store.modified


def test_cycle_key_of_a_session_without_a_key_gives_it_one(do):
    store = SessionStore()
    store["a"] = 1

    do(store, "cycle_key")

    assert loaded(do, store) == {"a": 1}


def test_flush_deletes_the_session_and_forgets_the_key(do, stored):
    store = SessionStore(stored(a=1).session_key)

    do(store, "flush")

    assert store.session_key is None
    assert store.is_empty()
    assert store.modified
    assert collection().count_documents({}) == 0


# Expiry


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo"])
@pytest.mark.parametrize("form", ["seconds", "zero", "none", "timedelta", "datetime", "iso"])
def test_expiry_in_every_form_ends_as_aware_utc(do, settings, use_tz, zone, form):
    from django.utils import timezone as django_timezone

    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    later = django_timezone.now() + timedelta(hours=1)
    forms = {"seconds": 3600, "zero": 0, "none": None, "timedelta": timedelta(hours=1)}
    forms |= {"datetime": later, "iso": later.isoformat()}
    seconds = 3600 if form not in ("zero", "none") else settings.SESSION_COOKIE_AGE
    store = SessionStore()
    store.set_expiry(forms[form])

    do(store, "save")

    left = the_document()["expires_at"] - datetime.now(timezone.utc)
    assert abs(left - timedelta(seconds=seconds)) < timedelta(seconds=30)
    assert do(store, "exists", store.session_key)


@pytest.mark.parametrize(
    ("expiry", "year"),
    [(10**12, 9999), (10**30, 9999), (float("inf"), 9999), (-(10**12), 1), (-(10**30), 1)],
)
def test_an_expiry_past_all_dates_is_clamped(do, expiry, year):
    store = SessionStore()
    store.set_expiry(expiry)

    do(store, "save")

    assert the_document()["expires_at"].year == year


def test_a_subclass_may_set_the_age_of_its_sessions(do, stored):
    class Short(SessionStore):
        def get_session_cookie_age(self):
            return 60

    stored(Short)

    assert the_document()["expires_at"] - the_document()["created_at"] == timedelta(minutes=1)


# Fields


def test_the_user_id_is_stored_and_removed(do, stored):
    store = stored(_auth_user_id=7)
    assert the_document()["user_id"] == "7"

    del store["_auth_user_id"]
    do(store, "save")
    assert "user_id" not in the_document()


def test_a_project_may_add_fields(do, stored):
    class Accounts(SessionStore):
        def to_document(self, data):
            return {"account_id": data.get("account")}

    store = stored(Accounts, account=7)
    assert the_document()["account_id"] == 7

    del store["account"]
    do(store, "save")
    assert "account_id" not in the_document()


def test_a_projects_field_must_not_be_one_of_ours(do, stored):
    class Wrong(SessionStore):
        def to_document(self, data):
            return {"revision": 7}

    with pytest.raises(ValueError, match="'revision'"):
        stored(Wrong)

    assert collection().count_documents({}) == 0


# What does not open


def test_secret_keys_are_rotated_in_two_deploys(do, stored, settings):
    store = stored(a=1)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert loaded(do, store) == {"a": 1}

    do(SessionStore(store.session_key), "save")

    settings.SECRET_KEY_FALLBACKS = []
    assert loaded(do, store) == {"a": 1}


def broken(how):
    """Break the only document in one of the ways that there are."""
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
    elif how.startswith("no "):
        collection().update_one({}, {"$unset": {how[3:]: True}})
    else:
        change_document(**{how.partition(" ")[0]: "text"})


HOW = ["forged", "cut short", "empty", "another form", "moved in time"]
HOW += [f"no {name}" for name in documents._FIELDS]
HOW += [f"{name} of text" for name in documents._FIELDS]


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
def test_a_field_that_pymongo_cannot_decode_is_one_of_a_wrong_type(
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
    assert collection().count_documents({}) == 0


def test_a_payload_that_was_swapped_with_anothers_does_not_open(do, stored, logged):
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


def test_a_host_with_another_secret_key_signs_nobody_out(do, stored, settings):
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


def test_what_breaks_between_load_and_save_is_left_alone(do, stored):
    store = stored(a=1)
    key = store.session_key
    broken("revision of text")
    store["a"] = 2

    do(store, "save")

    assert store.session_key != key
    assert loaded(do, store) == {"a": 2}
    assert collection().count_documents({}) == 2


def test_a_touch_of_what_broke_meanwhile_sends_nothing(do, stored):
    store = SessionStore(stored(a=1).session_key)
    do(store, "_get_session")
    broken("revision of text")
    before = the_document()

    do(store, "save")

    assert the_document() == before


def test_cycling_what_does_not_open_leaves_it(do, stored):
    key = stored(a=1).session_key
    broken("forged")
    store = SessionStore(key)

    do(store, "cycle_key")

    assert store.session_key != key
    assert collection().count_documents({}) == 2


@pytest.mark.parametrize("verb", ["delete", "flush"])
def test_what_does_not_open_can_be_revoked(do, stored, verb):
    store = SessionStore(stored(a=1).session_key)
    broken("forged")

    do(store, verb)

    assert collection().count_documents({}) == 0


# What cannot be stored


def test_a_value_that_cannot_be_serialized_is_named_and_nothing_is_written(do, stored):
    store = stored(a=1)
    before = the_document()
    store["cart"] = {1, 2}

    with pytest.raises(TypeError, match="'cart'"):
        do(store, "save")

    assert the_document() == before


def test_a_session_that_is_too_large_is_not_sent(do, stored, random_text):
    store = stored(small=1)
    before = the_document()
    store["large"], store["huge"] = random_text(1_000_000), random_text(24_000_000)

    with pytest.raises(
        DocumentTooLarge, match=r"1\d,\d{3},\d{3} bytes.*'huge' \(24,000,0.*'large'"
    ):
        do(store, "save")

    assert the_document() == before


def test_a_large_session_is_stored_with_a_warning(do, stored, logged, random_text):
    store = stored(large=random_text(2_000_000))

    [record] = logged()
    assert record.name == "django_mongo_sessions"
    assert "'large'" in record.getMessage()
    assert len(loaded(do, store)["large"]) == 2_000_000


# Housekeeping


def test_what_is_no_session_of_ours_is_not_removed(do):
    past = dates.utc_now() - timedelta(seconds=1)
    collection().insert_many({"_id": _id, "expires_at": past} for _id in (7, "text"))

    assert do(SessionStore, "clear_expired") == 0
    assert collection().count_documents({}) == 2


def test_what_has_expired_is_removed_in_batches_and_nothing_else(do, stored, monkeypatch):
    monkeypatch.setattr(deleting, "EXPIRED_BATCH", 4)
    live = [stored(n=n).session_key for n in range(3)]
    past = dates.utc_now() - timedelta(seconds=1)
    # Most of them in the very same millisecond.
    collection().insert_many(
        {"_id": b"\x01" + bytes([n]) * 32, "expires_at": past - timedelta(hours=n // 20)}
        for n in range(23)
    )

    assert do(SessionStore, "clear_expired") == 23
    assert do(SessionStore, "clear_expired") == 0
    assert all(do(SessionStore(), "exists", key) for key in live)
    assert collection().count_documents({}) == 3


# Touches of the middleware's


def test_a_session_that_was_not_read_is_not_touched(do, stored):
    session = SessionStore(stored(a=1).session_key)

    assert do(session, "_touch") is False


def test_a_touch_moves_the_expiry_and_answers_so(do, stored):
    session = stored(a=1)
    before = collection().find_one({})

    assert do(session, "_touch") is True

    after = collection().find_one({})
    assert after["expires_at"] >= before["expires_at"]
    assert after["revision"] == before["revision"]


def test_what_somebody_else_has_written_to_is_not_touched(do, stored):
    session = stored(a=1)
    other = SessionStore(session.session_key)
    other["b"] = 2
    do(other, "save")

    assert do(session, "_touch") is False


def test_a_session_that_was_mutated_is_modified(do, stored):
    # So that the middleware lets the cookie follow.
    session = SessionStore(stored(a=1).session_key)

    do(session, "mutate", lambda data: data.update(a=2))

    assert session.modified
