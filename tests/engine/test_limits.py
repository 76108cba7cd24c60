"""How many sessions a user may have: those too many end with the next sign-in."""

import asyncio
from datetime import timedelta

import pytest
from bson.binary import UUID_SUBTYPE, Binary
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.middleware.client_info import ClientInfo
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.signals import session_revoked
from django_mongo_sessions.storage import dates, documents
from tests.conftest import SESSIONS, collection, count_sessions

HIJACKED = {"hijack_history": ["1"]}


def signed_in(user_id="7", password="now", **more):
    return {SESSION_KEY: user_id, HASH_SESSION_KEY: password, **more}


@pytest.fixture
def limit(settings):
    """Set MAX_SESSIONS, once an engine has been set up."""

    def limit(value):
        settings.MONGO_SESSIONS["MAX_SESSIONS"] = value

    return limit


@pytest.fixture
def seen(stored):
    """`seen(5)` stores a session that the user has signed in to, and last used 5 minutes ago."""

    def seen(minutes, *args, **kwargs):
        store = stored(**signed_in(*args, **kwargs))
        move(store, minutes)
        return store

    return seen


def move(store, minutes):
    moment = dates.utc_now() - timedelta(minutes=minutes)
    collection().update_one({"_id": id_of(store)}, {"$set": {"seen_at": moment}})


def id_of(store):
    return documents.document_id(store.session_key)


def left(*stores):
    """Return which of these sessions there still are, by their places."""
    found = collection().find(SESSIONS, {"_id": True})
    there = {bytes(document["_id"]) for document in found}
    return [place for place, store in enumerate(stores) if id_of(store) in there]


def of_paths(user_id):
    return {"7": 2}.get(user_id)


class OwnCreate(SessionStore):
    """A project's own class, whose session moves by the methods of Django's own cycle_key()."""

    def create(self):
        super().create()

    async def acreate(self):
        await super().acreate()


class OwnSave(SessionStore):
    def save(self, must_create=False):
        super().save(must_create)

    async def asave(self, must_create=False):
        await super().asave(must_create)


# Ways to sign in


def by_save(do, stored, data, kind=SessionStore):
    store = kind()
    store.update(data)
    do(store, "save")
    return store


def by_create(do, stored, data, kind=SessionStore):
    store = kind()
    store.update(data)
    do(store, "create")
    return store


def by_save_of_an_anonymous_session(do, stored, data, kind=SessionStore):
    store = anonymous(do, stored, kind)
    store.update(data)
    do(store, "save")
    return store


def by_login(do, stored, data, kind=SessionStore):
    store = anonymous(do, stored, kind)
    do(store, "cycle_key")
    store.update(data)
    do(store, "save")
    return store


def by_cycle_key(do, stored, data, kind=SessionStore):
    store = anonymous(do, stored, kind)
    store.update(data)
    do(store, "cycle_key")
    return store


def by_mutate(do, stored, data, kind=SessionStore):
    store = anonymous(do, stored, kind)
    do(store, "mutate", lambda held: held.update(data))
    return store


def by_mutate_of_a_new_session(do, stored, data, kind=SessionStore):
    store = kind()
    do(store, "mutate", lambda held: held.update(data))
    return store


def anonymous(do, stored, kind):
    store = kind(stored(cart=[1]).session_key)
    do(store, "_get_session")
    return store


WAYS = [
    by_save,
    by_create,
    by_save_of_an_anonymous_session,
    by_login,
    by_cycle_key,
    by_mutate,
    by_mutate_of_a_new_session,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_sign_in_by_any_way_ends_the_session_that_was_not_seen_for_longest(
    do, stored, seen, limit, way
):
    sessions = seen(5), seen(9), seen(7)
    limit(3)

    new = way(do, stored, signed_in())

    assert left(*sessions, new) == [0, 2, 3]
    assert count_sessions() == 3


@pytest.mark.parametrize("kind", [OwnCreate, OwnSave])
def test_so_does_one_by_a_class_with_methods_of_its_own(do, stored, seen, limit, kind):
    for way in WAYS:
        collection().delete_many({})
        limit(None)
        sessions = seen(5), seen(9)
        limit(2)

        new = way(do, stored, signed_in(), kind)

        assert left(*sessions, new) == [0, 2], way
        assert count_sessions() == 2, way


def test_a_session_that_is_created_beside_the_users_own_is_one_more(do, seen, limit):
    old = seen(5)
    limit(1)

    new = SessionStore(old.session_key)
    do(new, "_get_session")
    do(new, "create")

    assert left(old, new) == [1]


@pytest.mark.parametrize(
    ("value", "there_are"),
    [
        (1, 1),
        (lambda user_id: {"7": 2}[user_id], 2),
        ("tests.engine.test_limits.of_paths", 2),
        (None, 4),
        (lambda user_id: None, 4),
        (4, 4),
    ],
)
def test_the_limit_is_a_number_or_what_a_function_of_the_users_id_returns(
    do, stored, seen, limit, value, there_are
):
    sessions = [seen(3), seen(2), seen(1)]
    limit(value)

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [*range(4)][-there_are:]


@pytest.mark.django_db
def test_the_function_may_ask_a_database(do, stored, seen, limit):
    sessions = [seen(3), seen(2)]
    limit(lambda user_id: 2 + User.objects.filter(pk=user_id).count())

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [1, 2]


def test_what_the_function_raises_is_logged_and_the_sign_in_stays(do, stored, seen, limit, logged):
    def fail(user_id):
        raise LookupError("no such table")

    old = seen(5)
    limit(fail)

    new = by_save(do, stored, signed_in())

    assert left(old, new) == [0, 1]
    [error] = logged()
    assert error.levelname == "ERROR"
    assert "are not limited" in error.getMessage()
    assert error.exc_info[0] is LookupError


@pytest.mark.only("mongomock")
def test_so_is_a_number_that_is_no_limit(do, stored, seen, limit, logged):
    old = seen(5)
    for value, said in ((0, "0"), (-1, "-1"), (2.5, "2.5"), (True, "True"), ("a" * 3, "of str")):
        limit(lambda user_id, value=value: value)

        new = by_save(do, stored, signed_in())

        assert left(old, new) == [0, 1]
        assert f"has returned {said}." in logged()[-1].getMessage().replace("an object ", "")


# Who goes first


def test_sessions_that_a_new_password_has_ended_go_before_others(do, stored, seen, limit):
    sessions = seen(9), seen(1, password="old"), seen(5), seen(3, password="old")
    limit(3)

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [0, 2, 4]


def test_they_too_go_by_when_they_were_last_seen(do, stored, seen, limit):
    sessions = seen(9), seen(1, password="old"), seen(5), seen(3, password="old")
    limit(4)

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [0, 1, 2, 4]


def test_without_a_password_nobody_knows_which_have_ended(do, stored, seen, limit):
    sessions = seen(9), seen(1, password="old")
    limit(2)

    new = by_save(do, stored, {SESSION_KEY: "7"})

    assert left(*sessions, new) == [1, 2]


@pytest.mark.django_db
def test_a_new_secret_key_is_not_a_new_password(engine, settings, limit):
    user = User.objects.create_user("a", password="old")
    clients = Client(), Client(), Client()
    clients[0].force_login(user)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a new one", [settings.SECRET_KEY]
    clients[1].force_login(user)
    stores = [client.session for client in clients[:2]]
    move(stores[0], 1)
    move(stores[1], 2)
    limit(2)

    clients[2].force_login(user)

    assert left(*stores, clients[2].session) == [0, 2]


@pytest.mark.django_db
def test_a_new_password_is_one_after_django_has_signed_the_user_in(engine, limit):
    user = User.objects.create_user("a", password="old")
    clients = Client(), Client(), Client()
    clients[0].force_login(user)
    user.set_password("new")
    clients[1].force_login(user)
    stores = [client.session for client in clients[:2]]
    move(stores[0], 1)
    move(stores[1], 2)
    limit(2)

    clients[2].force_login(user)

    assert left(*stores, clients[2].session) == [1, 2]


@pytest.mark.django_db
def test_what_django_knows_of_one_user_says_nothing_of_another(engine, limit):
    user = User.objects.create_user("a", password="old")
    other = by_save_now(signed_in("8", "of the other"))
    move(other, 5)
    client = Client()
    limit(2)

    client.force_login(user)
    store = SessionStore(client.session.session_key)
    store._user_hashes = {documents.hash_of("of somebody else")}
    store.update(signed_in("8", "of the other"))
    store.save()

    assert left(other, store) == [0, 1]


def by_save_now(data):
    store = SessionStore()
    store.update(data)
    store.save()
    return store


def test_of_sessions_seen_at_the_same_moment_the_order_is_that_of_their_ids(
    do, stored, seen, limit
):
    sessions = [seen(1) for _ in range(4)]
    moment = dates.utc_now() - timedelta(minutes=1)
    collection().update_many({}, {"$set": {"seen_at": moment}})
    limit(3)

    new = by_save(do, stored, signed_in())

    first, second, *others = sorted(sessions, key=id_of)
    assert left(first, second, *others, new) == [2, 3, 4]


def test_a_session_that_is_used_in_the_meantime_stays_and_the_next_one_goes(
    do, stored, seen, limit, monkeypatch
):
    sessions = seen(9), seen(7), seen(5)
    delete = operations.delete_last_seen

    def meanwhile(found):
        if id_of(sessions[0]) in found:
            move(sessions[0], 1)
        return delete(found)

    monkeypatch.setattr(operations, "delete_last_seen", meanwhile)
    limit(3)

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [0, 2, 3]


def test_sessions_that_keep_being_used_end_no_sign_in(do, stored, seen, limit, monkeypatch):
    sessions = seen(9), seen(7)
    tried, delete = [], operations.delete_last_seen

    def too_late(found):
        tried.append(found)
        return delete(dict.fromkeys(found, dates.LATEST))

    monkeypatch.setattr(operations, "delete_last_seen", too_late)
    limit(1)

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [0, 1, 2]
    assert 1 < len(tried) < 1_000


def test_the_newest_stays_even_if_another_one_is_used_before_the_limit_is_enforced(
    do, stored, seen, limit, monkeypatch
):
    old = seen(9)
    find = operations.find_of_user

    def meanwhile(*args):
        move(old, -1)
        return find(*args)

    monkeypatch.setattr(operations, "find_of_user", meanwhile)
    limit(1)

    new = by_login(do, stored, signed_in())

    assert left(old, new) == [1]


@pytest.mark.only("mongod")
def test_more_than_one_command_can_end_go_one_batch_after_the_other(
    do, stored, seen, limit, commands, monkeypatch
):
    monkeypatch.setattr("django_mongo_sessions.engine.signed_in._TRIM_BATCH", 2)
    sessions = [seen(minutes) for minutes in (9, 8, 7, 6)]
    limit(2)
    commands.names()

    new = by_save(do, stored, signed_in())

    assert commands.names() == ["insert", "find", "delete", "find", "delete"]
    assert left(*sessions, new) == [3, 4]


def test_another_users_sessions_and_expired_ones_do_not_count(do, stored, seen, limit):
    others, expired = [seen(9, "8"), seen(9, "77")], seen(9)
    past = dates.utc_now() - timedelta(seconds=1)
    collection().update_one({"_id": id_of(expired)}, {"$set": {"expires_at": past}})
    own = seen(5)
    limit(2)

    new = by_save(do, stored, signed_in())

    assert left(*others, expired, own, new) == [0, 1, 2, 3, 4]


def test_a_session_in_which_somebody_else_acts_for_the_user_does_not_count(do, stored, seen, limit):
    sessions = seen(9, **HIJACKED), seen(5)
    limit(2)

    new = by_save(do, stored, signed_in())

    assert left(*sessions, new) == [0, 1, 2]


# What is no sign-in


@pytest.fixture
def too_many(seen, limit):
    """A session of a user who has more than the limit allows, as it is read by a request."""
    sessions = seen(9), seen(5), seen(1)
    limit(1)
    return SessionStore(sessions[2].session_key)


def change(do, store):
    do(store, "_get_session")
    store["a"] = 1
    do(store, "save")


def sign_in_again(do, store):
    do(store, "cycle_key")
    store.update(signed_in())
    do(store, "save")


def sign_in_with_a_new_password(do, store):
    do(store, "_get_session")
    store.update(signed_in(password="new"))
    do(store, "save")


NO_SIGN_INS = [
    lambda do, store: do(store, "load"),
    lambda do, store: do(store, "mutate", lambda data: data.update(a=1)),
    lambda do, store: do(store, "cycle_key"),
    change,
    sign_in_again,
    sign_in_with_a_new_password,
]


@pytest.mark.parametrize("kind", [SessionStore, OwnCreate, OwnSave])
def test_whatever_a_user_does_in_a_session_is_no_sign_in(do, too_many, kind):
    key = too_many.session_key
    for use in NO_SIGN_INS:
        store = kind(key)

        use(do, store)

        assert count_sessions() == 3, use
        key = store.session_key  # it may have moved


@pytest.mark.parametrize(
    "data", [signed_in(**HIJACKED), {"a": 1}], ids=["acts for the user", "anonymous"]
)
def test_to_act_for_the_user_or_to_be_nobody_is_none_either(do, stored, too_many, data):
    for expected, way in enumerate(WAYS, start=4):
        way(do, stored, data)

        assert count_sessions() == expected, way


def test_to_become_another_user_in_the_same_session_is_one(do, stored, seen, limit):
    sessions = seen(9), seen(5, "8")
    limit(1)
    do(sessions[0], "_get_session")
    sessions[0].update(signed_in("8"))

    do(sessions[0], "save")

    assert left(*sessions) == [0]


# Signals


@pytest.fixture
def revoked():
    """What was sent with the signal."""
    sent = []

    def receive(**kwargs):
        sent.append(kwargs)

    session_revoked.connect(receive)
    yield sent
    session_revoked.disconnect(receive)


def test_each_session_that_ends_is_announced(do, stored, seen, limit, revoked):
    sessions = seen(9), seen(7), seen(5)
    request = RequestFactory().get("/")
    limit(2)

    new = SessionStore()
    new._client = ClientInfo(request)
    new.update(signed_in())
    do(new, "save")

    assert left(*sessions, new) == [2, 3]
    assert [each["reason"] for each in revoked] == ["limit", "limit"]
    assert all(each["request"] is request for each in revoked)
    first, second = (each["session"] for each in revoked)
    assert first.last_seen_at < second.last_seen_at
    assert {first.user_id, second.user_id} == {"7"}


def test_the_signal_has_no_request_where_there_is_none(do, stored, seen, limit, revoked):
    seen(9)
    limit(1)

    by_save(do, stored, signed_in())

    [sent] = revoked
    assert sent["request"] is None


def test_a_receiver_that_raises_ends_no_sign_in(do, stored, seen, limit):
    def fail(**kwargs):
        raise ValueError

    old = seen(9)
    limit(1)
    session_revoked.connect(fail)
    try:
        new = by_save(do, stored, signed_in())
    finally:
        session_revoked.disconnect(fail)

    assert left(old, new) == [1]


# Failures


@pytest.mark.parametrize("missing", ["find", "remove"])
@pytest.mark.parametrize("form", ["sync", "native"])
def test_if_the_limit_cannot_be_enforced_the_sign_in_stays_and_it_is_logged(
    limited, allow, settings, logged, form, missing
):
    session = by_save_now(signed_in("4711-the-user"))
    move_on = {"$set": {"seen_at": dates.utc_now() - timedelta(minutes=1)}}
    limited.update_one({"_id": id_of(session)}, move_on)
    allow(*{"find", "insert", "update", "remove", "listIndexes", "collStats"} - {missing})
    settings.MONGO_SESSIONS.update(MAX_SESSIONS=1, ASYNC="native")
    store = SessionStore()
    store.update(signed_in("4711-the-user", secret="a secret"))

    if form == "sync":
        store.save()
    else:
        asyncio.run(store.asave())

    assert limited.count_documents({}) == 2
    *_, record = logged()
    assert record.levelname == "WARNING"
    text = record.getMessage()
    assert "could not be limited" in text
    for value in ("4711-the-user", "a secret", session.session_key, store.session_key):
        assert value not in text


@pytest.mark.only("mongod")
def test_a_session_that_cannot_be_decoded_ends_no_sign_in(
    do, stored, seen, limit, logged, settings
):
    broken = seen(9)
    options = {**settings.MONGO_SESSIONS["CLIENT_OPTIONS"], "uuidRepresentation": "standard"}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "CLIENT_OPTIONS": options}
    limit(1)

    def put(name):
        no_uuid = {"$set": {name: Binary(b"too short", UUID_SUBTYPE)}}
        collection().update_one({"_id": id_of(broken)}, no_uuid)

    put("seen_at")
    new = by_save(do, stored, signed_in())
    assert "could not be limited" in logged()[-1].getMessage()
    assert left(broken, new) == [0, 1]

    collection().update_one({"_id": id_of(broken)}, {"$set": {"seen_at": dates.utc_now()}})
    put("address")
    another = by_save(do, stored, signed_in())
    assert left(broken, new, another) == [2]


# Commands


def parts(way, do, stored, data, commands):
    """Return what a sign-in sends, without what was stored before."""
    store = None
    if way is by_login:
        store = anonymous(do, stored, SessionStore)
    commands.names()
    if store is None:
        by_save(do, stored, data)
    else:
        do(store, "cycle_key")
        store.update(data)
        do(store, "save")
    return commands.names()


@pytest.mark.only("mongod")
@pytest.mark.parametrize(
    ("way", "sent"), [(by_save, ["insert"]), (by_login, ["insert", "update", "update"])]
)
def test_a_sign_in_sends_one_command_more_if_nobody_has_to_go(
    do, stored, seen, limit, commands, way, sent
):
    assert parts(way, do, stored, signed_in(), commands) == sent

    limit(3)
    assert parts(way, do, stored, signed_in(), commands) == [*sent, "find"]

    limit(lambda user_id: None)
    assert parts(way, do, stored, signed_in(), commands) == sent


@pytest.mark.only("mongod")
def test_and_one_more_for_all_that_have_to_go(do, stored, seen, limit, commands):
    for minutes in (9, 7, 5):
        seen(minutes)
    limit(2)

    assert parts(by_save, do, stored, signed_in(), commands) == ["insert", "find", "delete"]


@pytest.mark.only("mongod")
@pytest.mark.parametrize("use", NO_SIGN_INS)
def test_no_other_request_sends_anything_more(do, seen, limit, commands, use):
    key = seen(5).session_key

    def sent():
        commands.names()
        store = SessionStore(key)
        use(do, store)
        return store.session_key, commands.names()

    key, without = sent()
    limit(1)
    _, limited = sent()

    assert limited == without
