"""Sessions of the engine that a site had before: adopted once, and never after a sign-out."""

import json
import logging
import time
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.test import Client
from pymongo.errors import AutoReconnect, DuplicateKeyError, PyMongoError

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.conf import Conf
from django_mongo_sessions.connection.breaker import PROBE_INTERVAL
from django_mongo_sessions.engine import adopting, deleting, predecessors
from django_mongo_sessions.exceptions import PredecessorUnavailable
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.signals import session_adopted, session_revoked
from django_mongo_sessions.storage import dates, documents
from tests.conftest import SESSIONS, collection, count_sessions
from tests.engine import old
from tests.engine.helpers import the_document

KEY = "abcdefghijklmnopqrstuvwxyz012345"
ID = documents.document_id(KEY)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DATA = {SESSION_KEY: "7", "cart": [1, 2]}


def set_up(settings, engine="rows", **keys):
    path = engine if "." in engine else f"tests.engine.old.{engine}"
    until = (dates.utc_now() + 30 * DAY).date()
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "PREDECESSOR": path,
        "PREDECESSOR_UNTIL": until.isoformat(),
        **keys,
    }


@pytest.fixture
def world(settings, request):
    """What the old engines hold, with `rows` as the predecessor."""
    request.getfixturevalue("engine")
    old.WORLD.__init__()
    predecessors._engine.cache_clear()
    adopting._reported.clear()
    set_up(settings)
    return old.WORLD


@pytest.fixture
def predecessor(do, world):
    return world


def load(do, key=KEY):
    return do(SessionStore(key), "load")


def is_buried(key=KEY):
    document = collection().find_one({"_id": documents.document_id(key)})
    return document is not None and documents.is_marker(document)


def outlives_the_old_engine(key=KEY):
    document = collection().find_one({"_id": documents.document_id(key)})
    return dates.utc(document["expires_at"]) > dates.utc_now() + 29 * DAY


# Adopting


def test_a_session_is_taken_with_its_data_and_its_end(do, predecessor):
    ends = predecessor.put(KEY, **DATA)

    assert load(do) == DATA
    assert predecessor.sessions == {}
    document = the_document()
    assert dates.utc(document["expires_at"]) == ends
    assert "there_until" not in document
    age = timedelta(seconds=SessionStore().get_session_cookie_age())
    assert dates.utc(document["created_at"]) == dates.utc(document["seen_at"]) == ends - age
    assert document["user_id"] == "7"
    assert dates.utc_now() - dates.utc(document["adopted"]) < HOUR


def test_a_session_that_was_adopted_is_not_asked_for_again(do, predecessor):
    predecessor.put(KEY, **DATA)
    load(do)
    predecessor.calls.clear()

    assert load(do) == DATA
    store = SessionStore(KEY)
    do(store, "_get_session")["cart"] = []
    do(store, "save")

    assert predecessor.calls == []
    assert load(do) == {**DATA, "cart": []}
    assert "adopted" in the_document()


def test_a_session_may_be_left_where_it_is(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, **DATA)

    assert load(do) == DATA
    assert KEY in predecessor.sessions


def test_what_neither_has_is_a_miss(do, predecessor):
    store = SessionStore(KEY)

    assert do(store, "load") == {}
    assert store.session_key is None
    assert not do(SessionStore(), "exists", KEY)


@pytest.mark.parametrize("data", [{}, {"seconds": -1, "a": 1}], ids=["empty", "expired"])
def test_what_is_empty_or_over_is_a_miss_and_stays(do, predecessor, data):
    predecessor.put(KEY, **data)

    assert load(do) == {}
    assert KEY in predecessor.sessions
    assert count_sessions() == 0


def test_a_session_exists_in_the_old_engine_too(do, predecessor):
    predecessor.put(KEY, a=1)

    assert do(SessionStore(), "exists", KEY)
    assert count_sessions() == 0
    load(do)
    assert do(SessionStore(), "exists", KEY)
    assert not do(SessionStore(), "exists", "short")
    assert not do(SessionStore(), "exists", None)


def test_a_key_of_another_shape_is_never_handed_over(do, predecessor):
    assert load(do, "../../etc/passwd") == {}
    assert load(do, KEY + "\n") == {}
    assert predecessor.calls == []


def test_after_its_day_the_old_engine_is_never_asked(do, predecessor, settings):
    set_up(settings, PREDECESSOR_UNTIL=(dates.utc_now() - 2 * DAY).date().isoformat())
    predecessor.put(KEY, **DATA)

    assert load(do) == {}
    assert not do(SessionStore(), "exists", KEY)
    do(SessionStore(KEY), "delete")
    do(SessionStore(KEY), "flush")
    assert predecessor.calls == []
    assert collection().count_documents({}) == 0


def test_the_age_of_a_session_is_no_longer_than_before(do, predecessor, settings):
    day = DAY.total_seconds()
    set_up(settings, ABSOLUTE_AGE=14 * day)
    over = predecessor.put(KEY, seconds=3600, **DATA)
    load(do)
    assert dates.utc(the_document()["expires_at"]) == over

    collection().delete_many({})
    set_up(settings, ABSOLUTE_AGE=13 * day)
    predecessor.put(KEY, seconds=3600, **DATA)
    assert load(do) == {}


def test_a_shorter_age_of_a_session_tells_when_it_was_saved(do, predecessor):
    ends = predecessor.put(KEY, seconds=50, a=1, _session_expiry=60)

    load(do)

    assert dates.utc(the_document()["created_at"]) == ends - timedelta(seconds=60)


@pytest.mark.parametrize("expiry", [10**10, 10**12])
def test_an_end_in_the_far_future_does_no_harm(do, predecessor, expiry):
    predecessor.put(KEY, a=1, _session_expiry=expiry)

    assert load(do) == {"a": 1, "_session_expiry": expiry}


def test_an_engine_that_does_not_tell_the_end_may_lengthen_it(do, predecessor, settings, caplog):
    set_up(settings, "plain")
    predecessor.put(KEY, seconds=60, a=1)

    with caplog.at_level(logging.INFO, "django_mongo_sessions.predecessor"):
        assert load(do) == {"a": 1}

    left = dates.utc(the_document()["expires_at"]) - dates.utc_now()
    assert abs(left - 14 * DAY) < HOUR
    assert "may end later" in caplog.text
    predecessor.put(KEY[::-1], a=1, _session_expiry=-1)
    assert load(do, KEY[::-1]) == {}


def test_an_engines_own_asynchronous_methods_are_awaited(do, predecessor, settings, request):
    set_up(settings, "awaitable")
    predecessor.put(KEY, **DATA)

    assert load(do) == DATA

    is_sync = request.node.callspec.params["do"] == "sync"
    expected = ["load", "delete"] if is_sync else ["awaited", "load", "awaited", "delete"]
    assert predecessor.calls == expected


def test_a_key_that_the_old_engine_refuses_is_a_miss(do, predecessor, settings):
    for engine in ("rows", "plain", "awaitable"):
        set_up(settings, engine)
        predecessor.error = SuspiciousOperation("no key")

        assert load(do) == {}
        do(SessionStore(KEY), "flush")
        collection().delete_many({})


def test_an_adoption_is_told_without_the_key(do, predecessor, caplog):
    told = []
    predecessor.put(KEY, **DATA)

    def receive(sender, **arguments):
        told.append((sender, arguments["request"], arguments["user_id"]))

    session_adopted.connect(receive)
    try:
        with caplog.at_level(logging.INFO, "django_mongo_sessions.predecessor"):
            load(do)
    finally:
        session_adopted.disconnect(receive)

    assert told == [(SessionStore, None, "7")]
    assert [record.getMessage() for record in caplog.records] == ["A session was adopted."]


class Moving(SessionStore):
    def from_predecessor(self, found, data):
        return {**data, "ip": found.row.ip}, {"ip": found.row.ip, "none": None}


class Wrong(SessionStore):
    def from_predecessor(self, found, data):
        return data, {"adopted": True}


def test_a_site_may_keep_what_the_old_engine_had_in_columns(do, predecessor):
    predecessor.put(KEY, a=1)

    assert do(Moving(KEY), "load") == {"a": 1, "ip": "203.0.113.7"}

    document = the_document()
    assert document["ip"] == "203.0.113.7"
    assert "none" not in document


def test_a_field_of_the_engines_own_is_refused(do, predecessor):
    predecessor.put(KEY, a=1)

    with pytest.raises(ValueError, match=r"from_predecessor\(\) returned 'adopted'"):
        do(Wrong(KEY), "load")
    assert KEY in predecessor.sessions


# What cannot be stored


def test_what_the_serializer_cannot_store_stays_and_its_keys_are_logged_once(
    do, predecessor, caplog
):
    predecessor.put(KEY, a=1, when=dates.utc_now(), some={1})

    for _ in range(2):
        store = SessionStore(KEY)
        assert do(store, "load") == {}
        assert store.session_key == KEY  # so that the cookie stays

    assert KEY in predecessor.sessions
    assert count_sessions() == 0
    [record] = caplog.records
    assert record.getMessage().endswith("SESSION_SERIALIZER cannot store 'when', 'some'")
    assert str(KEY) not in caplog.text


class Sorts:
    """A serializer that takes each of the keys, and not all of them together."""

    def dumps(self, data):
        return json.dumps(data, sort_keys=True).encode()

    def loads(self, body):
        return json.loads(body)


def test_what_the_serializer_cannot_store_as_a_whole_has_its_error_logged(
    do, predecessor, settings, caplog
):
    settings.SESSION_SERIALIZER = f"{__name__}.Sorts"
    predecessor.put(KEY)
    predecessor.sessions[KEY][0].update({1: "S3CRET", "b": 2})

    assert do(SessionStore(KEY), "load") == {}

    [record] = caplog.records
    assert record.getMessage().endswith("SESSION_SERIALIZER cannot store it: TypeError")


def test_what_is_too_large_stays(do, predecessor, caplog, monkeypatch):
    monkeypatch.setattr(adopting, "_MAX_REPORTED", 1)
    for key in (KEY, KEY[::-1]):
        predecessor.put(key, text="x" * 16_000_000)

        assert load(do, key) == {}
        assert key in predecessor.sessions

    assert ["'text'" in record.getMessage() for record in caplog.records] == [True, True]
    assert len(adopting._reported) == 1


# Sign-outs


@pytest.mark.parametrize("verb", ["flush", "delete"])
@pytest.mark.parametrize("is_loaded", [True, False])
def test_whoever_has_signed_out_does_not_come_back(do, predecessor, settings, verb, is_loaded):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, **DATA)
    store = SessionStore(KEY)
    if is_loaded:
        do(store, "_get_session")

    do(store, verb)
    assert predecessor.sessions == {}
    predecessor.put(KEY, **DATA)  # as if it could not be deleted there
    predecessor.calls.clear()

    assert load(do) == {}
    assert not do(SessionStore(), "exists", KEY)
    assert predecessor.calls == []
    assert is_buried()
    assert outlives_the_old_engine()


def test_a_sign_out_by_key_reaches_the_old_engine(do, predecessor):
    predecessor.put(KEY, **DATA)

    do(SessionStore(), "delete", KEY)

    assert predecessor.sessions == {}
    assert is_buried()


def test_a_second_sign_out_changes_nothing(do, predecessor):
    do(SessionStore(KEY), "delete")
    there = collection().find_one({"_id": ID})

    do(SessionStore(KEY), "delete")

    assert collection().find_one({"_id": ID}) == there


def test_a_sign_out_holds_even_if_the_old_engine_is_down(do, predecessor, caplog):
    predecessor.put(KEY, **DATA)
    predecessor.error = OSError(KEY)

    do(SessionStore(KEY), "flush")
    predecessor.error = None

    assert load(do) == {}
    assert KEY in predecessor.sessions
    assert "could not be deleted" in caplog.text
    assert KEY not in caplog.text


def test_a_session_that_was_born_here_leaves_no_tombstone(do, predecessor, stored):
    store = stored(a=1)

    do(store, "flush")

    assert collection().count_documents({}) == 0
    assert predecessor.calls == []


def test_the_session_of_a_cookie_can_be_ended(world, engine):
    world.put(KEY, **DATA)

    assert run(deleting.end(KEY))
    assert not run(deleting.end(KEY))
    assert world.sessions == {}
    assert is_buried()


def test_a_save_after_the_sign_out_fails(do, predecessor):
    predecessor.put(KEY, **DATA)
    late = SessionStore(KEY)
    do(late, "_get_session")["a"] = 1
    do(SessionStore(KEY), "flush")
    predecessor.put(KEY, **DATA)

    with pytest.raises(UpdateError):
        do(late, "save")


# Signing in


def test_the_old_key_of_a_sign_in_does_not_come_back(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, cart=[1])
    store = SessionStore(KEY)
    do(store, "_get_session").update(DATA)
    do(store, "cycle_key")

    assert predecessor.sessions == {}
    predecessor.put(KEY, cart=[1])
    assert load(do) == {}
    assert outlives_the_old_engine()
    [new] = collection().find(SESSIONS)
    assert "adopted" not in new
    do(store, "flush")
    assert count_sessions() == 0
    assert load(do) == {}


def test_a_sign_out_follows_an_adopted_session_to_its_new_key(do, predecessor):
    predecessor.put(KEY, **DATA)
    store = SessionStore(KEY)
    do(store, "_get_session")
    do(store, "cycle_key")

    do(SessionStore(KEY), "flush")

    assert count_sessions() == 0
    assert load(do, store.session_key) == {}


def test_the_new_key_of_a_sign_in_may_be_deleted_by_the_old_one(do, predecessor):
    """That ends nothing: the session has another key by then."""
    predecessor.put(KEY, **DATA)
    store = SessionStore(KEY)
    do(store, "_get_session")
    do(store, "cycle_key")

    do(store, "delete", KEY)

    assert load(do, store.session_key) == DATA
    assert is_buried()


class OwnDelete(SessionStore):
    def delete(self, session_key=None):
        super().delete(session_key)

    async def adelete(self, session_key=None):
        await super().adelete(session_key)


def test_a_subclass_that_deletes_leaves_a_tombstone_too(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, **DATA)
    store = OwnDelete(KEY)
    do(store, "_get_session")

    do(store, "cycle_key")

    assert predecessor.sessions == {}
    assert is_buried()
    assert outlives_the_old_engine()


# An end that is earlier than in the old engine


def test_a_session_that_will_end_earlier_is_deleted_there_first(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, a=1)
    store = SessionStore(KEY)
    do(store, "_get_session")
    store.set_expiry(60)

    do(store, "save")

    assert predecessor.sessions == {}
    assert "there_until" not in the_document()
    predecessor.calls.clear()
    store["b"] = 1
    do(store, "save")
    assert predecessor.calls == []


def test_it_is_not_saved_if_it_cannot_be_deleted_there(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True)
    ends = predecessor.put(KEY, a=1)
    store = SessionStore(KEY)
    do(store, "_get_session")
    store.set_expiry(60)
    predecessor.error = OSError()

    with pytest.raises(PredecessorUnavailable):
        do(store, "save")

    assert dates.utc(the_document()["expires_at"]) == ends


def test_a_touch_that_ends_it_earlier_deletes_it_there_too(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, seconds=30 * 86_400, a=1)
    store = SessionStore(KEY)
    do(store, "_get_session")

    assert do(store, "_touch")

    assert predecessor.sessions == {}
    assert "there_until" not in the_document()


# An old engine that fails


def test_an_error_of_the_old_engine_is_no_miss(do, predecessor):
    predecessor.put(KEY, **DATA)
    predecessor.error = OSError(KEY)
    store = SessionStore(KEY)

    with pytest.raises(PredecessorUnavailable, match="OSError") as caught:
        do(store, "load")

    assert store.session_key == KEY
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None
    shown, step = [], caught.value.__traceback__
    while step is not None:
        if step.tb_frame.f_globals["__name__"].startswith("django_mongo_sessions"):
            shown.append(repr(step.tb_frame.f_locals))
        step = step.tb_next
    assert shown
    assert KEY not in "".join(shown)
    assert count_sessions() == 0


def test_one_request_a_second_tries(do, predecessor, monkeypatch):
    predecessor.put(KEY, **DATA)
    predecessor.error = OSError()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(3):
        with pytest.raises(PredecessorUnavailable):
            load(do)
    assert predecessor.calls == ["row"]

    now += PROBE_INTERVAL
    with pytest.raises(PredecessorUnavailable):
        load(do)
    assert predecessor.calls == ["row", "row"]

    predecessor.error = None
    now += PROBE_INTERVAL
    assert load(do) == DATA


@pytest.mark.parametrize(
    "keys", [{"PREDECESSOR": "nowhere.at.all"}, {"PREDECESSOR_UNTIL": None}], ids=["path", "day"]
)
def test_wrong_settings_are_refused_at_the_first_use(do, predecessor, settings, keys):
    set_up(settings, **keys)

    with pytest.raises(ImproperlyConfigured):
        load(do)


# Races


def test_a_sign_out_after_the_old_session_was_read_wins(do, predecessor):
    predecessor.put(KEY, **DATA)
    predecessor.meanwhile = lambda: run(deleting.end(KEY)) if load_once(predecessor) else None

    assert load(do) == {}
    assert count_sessions() == 0


def load_once(world):
    world.meanwhile = lambda: None
    return True


def test_of_two_adoptions_one_wins_and_both_use_it(do, predecessor):
    ends = predecessor.put(KEY, **DATA)

    def another_request():
        predecessor.meanwhile = lambda: None
        other = SessionStore(KEY)
        assert run(adopting_load(other)) == DATA

    predecessor.meanwhile = another_request
    store = SessionStore(KEY)

    assert do(store, "_get_session") == DATA
    assert count_sessions() == 1
    assert dates.utc(the_document()["expires_at"]) == ends


def adopting_load(store):
    from django_mongo_sessions.engine import loading

    return (yield from loading.data(store))


def test_an_adoption_whose_winner_has_gone_is_tried_again(do, predecessor, monkeypatch):
    """As after a host without the setting has deleted the session."""
    predecessor.put(KEY, **DATA)
    adopt, refusals = operations.adopt, [DuplicateKeyError("taken")]

    def once_refused(document):
        operation = adopt(document)
        if not refusals:
            return operation
        return operations.Operation(lambda collection: throw(refusals.pop()), bool)

    monkeypatch.setattr(operations, "adopt", once_refused)

    assert load(do) == DATA


def throw(error):
    raise error


def test_a_unique_index_of_the_projects_is_named(do, predecessor, monkeypatch):
    predecessor.put(KEY, **DATA)
    error = DuplicateKeyError("taken", details={"keyPattern": {"account": 1}})
    refused = operations.Operation(lambda collection: throw(error), bool)
    monkeypatch.setattr(operations, "adopt", lambda document: refused)

    with pytest.raises(DuplicateKeyError):
        load(do)
    assert KEY in predecessor.sessions


@pytest.mark.only("mongod")
@pytest.mark.parametrize("was_applied", [True, False])
def test_a_lost_reply_to_an_adoption_loses_nothing(do, predecessor, monkeypatch, was_applied):
    predecessor.put(KEY, **DATA)
    adopt, lost = operations.adopt, [AutoReconnect("lost")]

    def once_lost(document):
        operation = adopt(document)
        if not lost:
            return operation
        if was_applied:
            collection().insert_one(dict(document))
        return operations.Operation(lambda collection: throw(lost.pop()), bool)

    monkeypatch.setattr(operations, "adopt", once_lost)

    assert load(do) == DATA
    assert count_sessions() == 1


def test_a_session_that_is_stored_while_it_is_buried_is_buried_too(do, predecessor, monkeypatch):
    predecessor.put(KEY, **DATA)
    bury, overtaken = operations.bury, [DuplicateKeyError("taken")]

    def once_overtaken(marker):
        if not overtaken:
            return bury(marker)
        run(adopting_load(SessionStore(KEY)))
        return operations.Operation(lambda collection: throw(overtaken.pop()), bool)

    monkeypatch.setattr(operations, "bury", once_overtaken)

    do(SessionStore(), "delete", KEY)

    assert is_buried()
    assert load(do) == {}


def test_a_flush_by_another_task_ends_an_adoption(world, engine):
    """The error that ends it is no error of the old engine's."""
    world.put(KEY, **DATA)
    store = SessionStore(KEY)
    world.meanwhile = lambda: (load_once(world), store.flush())

    with pytest.raises(UpdateError):
        store.save()
    assert adopting.predecessors.current().gate.outage is None


# The sessions of a user


@pytest.mark.parametrize("verb", ["revoke_all_sessions", "revoke_session"])
def test_a_session_that_is_ended_by_its_user_does_not_come_back(do, predecessor, settings, verb):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, **DATA)
    load(do)
    arguments = []
    if verb == "revoke_session":
        arguments = [do(users, "list_sessions", "7")[0].id]

    assert do(users, verb, "7", *arguments)

    assert load(do) == {}
    assert is_buried()
    assert do(users, "list_sessions", "7") == []


def test_sessions_of_both_kinds_are_ended(do, predecessor, stored):
    predecessor.put(KEY, **DATA)
    load(do)
    stored(**DATA)

    assert do(users, "revoke_all_sessions", "7") == 2
    assert count_sessions() == 0
    assert collection().count_documents({}) == 1


def test_one_that_signs_out_at_that_moment_is_not_counted(do, predecessor, monkeypatch):
    predecessor.put(KEY, **DATA)
    load(do)
    bury = operations.bury_of_user

    def meanwhile(*args):
        SessionStore(KEY).flush()
        return bury(*args)

    monkeypatch.setattr(operations, "bury_of_user", meanwhile)

    assert do(users, "revoke_all_sessions", "7") == 0
    assert is_buried()


def test_a_session_that_is_one_too_many_does_not_come_back(do, predecessor, settings):
    set_up(settings, PREDECESSOR_KEEPS=True, MAX_SESSIONS=1)
    predecessor.put(KEY, **DATA)
    load(do)
    store = SessionStore()
    store.update(DATA)

    do(store, "save")

    assert load(do) == {}
    assert is_buried()
    assert do(users, "count_sessions", "7") == 1


def test_each_is_announced_before_the_next_may_fail(do, predecessor, settings, monkeypatch, stored):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, **DATA)
    load(do)
    stored(**DATA)
    lost = operations.Operation(lambda collection: throw(PyMongoError("lost")), bool)
    monkeypatch.setattr(operations, "delete_of_user", lambda *args: lost)
    told = []

    def hear(session, **kwargs):
        told.append(session)

    session_revoked.connect(hear)
    try:
        with pytest.raises(PyMongoError, match="lost"):
            do(users, "revoke_all_sessions", "7")
    finally:
        session_revoked.disconnect(hear)

    assert is_buried()
    assert len(told) == 1


# The last day


@pytest.mark.parametrize("keeps", [True, False])
def test_a_sign_out_right_after_the_last_day_meets_what_was_read_before(
    do, predecessor, settings, monkeypatch, keeps
):
    set_up(settings, PREDECESSOR_KEEPS=keeps)
    predecessor.put(KEY, **DATA)

    def at_midnight():
        if load_once(predecessor):
            run(adopting_load(SessionStore(KEY)))
            past = dates.utc_now() - timedelta(seconds=1)
            monkeypatch.setattr(Conf, "predecessor_until", lambda conf: past)
            run(deleting.delete(SessionStore(KEY)))

    predecessor.meanwhile = at_midnight
    load(do)

    assert load(do) == {}


# Moves and strays that are unfinished


def test_a_stray_of_a_lost_insert_leaves_a_tombstone(do, predecessor, monkeypatch):
    insert = operations.insert
    lost = operations.Operation(lambda collection: throw(PyMongoError("lost")), bool)
    monkeypatch.setattr(operations, "insert", lambda document: lost)
    monkeypatch.setattr("django_mongo_sessions.engine.saving.may_have_applied", lambda error: True)
    store = SessionStore(KEY)
    with pytest.raises(PyMongoError):
        do(store, "save", must_create=True)
    monkeypatch.setattr(operations, "insert", insert)

    do(store, "flush")

    assert is_buried()
    assert outlives_the_old_engine()


def test_the_session_of_a_cookie_ends_here_even_if_the_old_engine_is_down(world, engine):
    world.put(KEY, **DATA)
    world.error = OSError()

    with pytest.raises(PredecessorUnavailable):
        run(deleting.end(KEY))

    assert is_buried()
    assert not run(deleting.end("no key"))


@pytest.mark.django_db
def test_the_response_has_status_503_and_the_cookie_stays(world, engine, settings):
    settings.DEBUG = False
    world.put(KEY, book="Sherlock Holmes")
    world.error = OSError()
    browser = Client(raise_request_exception=False)
    browser.cookies[settings.SESSION_COOKIE_NAME] = KEY

    response = browser.get("/getsession/")

    assert response.status_code == 503
    assert not response.cookies
    world.error = None
    predecessors.current().gate.outage = None
    assert browser.get("/getsession/").status_code == 200
