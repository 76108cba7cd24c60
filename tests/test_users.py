"""Who is signed in: list, count and end the sessions of a user."""

import asyncio
import gc
import itertools
import json
import logging
from dataclasses import FrozenInstanceError, fields
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID, uuid4

import django
import pytest
from bson import DatetimeMS, ObjectId
from bson.binary import UUID_SUBTYPE, Binary
from django.apps.registry import Apps
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user,
)
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends import signed_cookies
from django.contrib.sessions.backends.base import UpdateError
from django.db import models
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.translation import override
from pymongo.errors import AutoReconnect, PyMongoError

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.devices import Device
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.middleware.client_info import ClientInfo
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.signals import session_client_changed, session_revoked
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection, count_sessions
from tests.engine.helpers import UNKNOWN

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1"
ALICE = User(pk=7, username="alice", password="one")
BOB = User(pk=77, username="bob", password="two")
MONGOD = pytest.mark.only("mongod")


def data_of(user):
    """Return what Django's login() stores in the session of a user."""
    data = {
        SESSION_KEY: user._meta.pk.value_to_string(user),
        BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
    }
    if hasattr(user, "get_session_auth_hash"):
        data[HASH_SESSION_KEY] = user.get_session_auth_hash()
    return data


@pytest.fixture
def sign_in(stored, monkeypatch):
    """`sign_in(user)` stores a session of the user, and returns a request with it.

    Its store has not loaded the session. Each sign-in is a minute after the one before.
    """
    moments = (dates.utc_now() + timedelta(minutes=minute) for minute in range(-60, 0))

    def sign_in(user, **data):
        moment = next(moments)
        with monkeypatch.context() as clock:
            clock.setattr(dates, "utc_now", lambda: moment)
            store = stored(**{**data_of(user), **data})
        return a_request(store.session_key)

    return sign_in


def a_request(key=None, **headers):
    request = RequestFactory().get("/", **headers)
    request.session = SessionStore(key)
    return request


def change(store, **values):
    """Change fields of a session, as someone with access to the database can."""
    wanted = {"_id": documents.document_id(store.session_key)}
    collection().update_one(wanted, {"$set": values})


def record(settings, **keys):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **keys}


def is_stored(request):
    wanted = {"_id": documents.document_id(request.session.session_key)}
    return collection().count_documents(wanted) == 1


# What a list has


def test_a_user_who_is_not_signed_in_has_no_sessions(do, sign_in):
    sign_in(BOB)

    assert do(users, "list_sessions", ALICE) == []
    assert do(users, "count_sessions", ALICE) == 0


def test_the_newest_come_first(do, sign_in):
    for _ in range(3):
        sign_in(ALICE)

    began = [each.created_at for each in do(users, "list_sessions", ALICE)]

    assert began == sorted(began, reverse=True)
    assert len(set(began)) == do(users, "count_sessions", ALICE) == 3


def test_the_current_one_comes_before_the_newest_and_is_marked(do, sign_in):
    oldest, _, newest = [sign_in(ALICE) for _ in range(3)]

    found = do(users, "list_sessions", ALICE, request=oldest)

    assert [each.is_current for each in found] == [True, False, False]
    assert found[0].created_at < found[2].created_at < found[1].created_at
    assert found[1].id == do(users, "list_sessions", ALICE, request=newest)[0].id


def test_without_a_request_or_with_one_of_another_none_is_current(do, sign_in):
    sign_in(ALICE)
    others = [None, sign_in(BOB), a_request(), RequestFactory().get("/")]

    for request in others:
        [found] = do(users, "list_sessions", ALICE, request=request)
        assert not found.is_current


def test_a_session_that_is_lazy_is_evaluated(do, sign_in):
    request = sign_in(ALICE)
    session = request.session
    request.session = SimpleLazyObject(lambda: session)

    [found] = do(users, "list_sessions", ALICE, request=request)

    assert found.is_current


def test_a_session_has_these_fields(do, sign_in, settings):
    record(settings, USER_AGENT=True, ADDRESS="full")
    request = sign_in(ALICE)
    headers = {"HTTP_USER_AGENT": FIREFOX, "REMOTE_ADDR": "203.0.113.7"}
    store = SessionStore(request.session.session_key)
    client = RequestFactory().get("/", **headers)
    store._client = ClientInfo(client)
    do(store, "_get_session")
    do(store, "save")

    [found] = do(users, "list_sessions", ALICE, request=request)

    document = collection().find_one({})
    assert (found.user_id, found.is_current, found.impersonator_id) == ("7", True, None)
    assert (found.user_agent, found.address) == (FIREFOX, "203.0.113.7")
    assert found.device == Device("Firefox", "Linux")
    shown = (found.created_at, found.last_seen_at, found.expires_at)
    assert shown == (document["created_at"], document["seen_at"], document["expires_at"])
    assert all(date.tzinfo is timezone.utc for date in shown)


def test_what_is_not_recorded_is_none(do, sign_in):
    sign_in(ALICE)

    [found] = do(users, "list_sessions", ALICE)

    assert (found.user_agent, found.address) == (None, None)
    assert found.device == Device()


def test_a_session_cannot_be_changed(do, sign_in):
    sign_in(ALICE)
    [found] = do(users, "list_sessions", ALICE)

    with pytest.raises(FrozenInstanceError):
        found.is_current = True


def test_a_session_as_dict_is_json(do, sign_in):
    request = sign_in(ALICE)
    change(request.session, user_agent=SAFARI)
    [found] = do(users, "list_sessions", ALICE, request=request)

    with override("de"):
        shown = json.loads(json.dumps(found.as_dict()))

    assert shown.keys() == {field.name for field in fields(found)} | {"device"}
    assert shown["id"] == found.id
    assert datetime.fromisoformat(shown["created_at"]) == found.created_at
    assert shown["is_current"] is True
    assert shown["address"] is None
    assert shown["device"].startswith("Safari")


def test_no_key_no_id_and_no_data_are_shown(do, sign_in):
    request = sign_in(ALICE, cart="a secret")
    [found] = do(users, "list_sessions", ALICE, request=request)
    key = request.session.session_key

    shown = repr(found) + json.dumps(found.as_dict())

    assert key not in shown
    assert documents.document_id(key).hex() not in shown
    assert "a secret" not in shown
    assert documents.document_id(found.id) is None


def test_a_session_that_has_expired_is_left_out(do, sign_in):
    request = sign_in(ALICE)
    change(request.session, expires_at=datetime(2026, 1, 1, tzinfo=timezone.utc))

    assert do(users, "list_sessions", ALICE) == []
    assert do(users, "count_sessions", ALICE) == 0
    assert do(users, "revoke_all_sessions", ALICE) == 0


def test_a_session_without_a_user_is_left_out(do, stored):
    stored(a=1)

    assert do(users, "signed_in_user_ids") == []


# Whom a list is of


class ObjectIdField(models.Field):
    """A key as django-mongodb-backend has it."""


def model(key, base=AbstractBaseUser):
    """Make a user model with this primary key."""

    class Meta:
        app_label = "tests"
        apps = Apps()

    return type("Member", (base,), {"id": key, "Meta": Meta, "__module__": __name__})


OBJECT_ID = "65a1b2c3d4e5f60718293a4b"
UUID_TEXT = "9b2d6c1e-0f4a-4c3b-8a5d-7e6f5a4b3c2d"
KEYS = [
    (models.BigAutoField, 7, "7"),
    (models.UUIDField, UUID(UUID_TEXT), UUID_TEXT),
    (ObjectIdField, ObjectId(OBJECT_ID), OBJECT_ID),
    (models.EmailField, "alice@example.com", "alice@example.com"),
    (models.CharField, "älice $ne.\0", "älice $ne.\0"),
]


@pytest.mark.parametrize(("kind", "key", "text"), KEYS, ids=[each[0].__name__ for each in KEYS])
def test_a_user_may_have_any_key(do, sign_in, kind, key, text):
    user = model(kind(primary_key=True))(pk=key, password="one")
    request = sign_in(user)

    for given in (user, text, SimpleLazyObject(lambda: user)):
        [found] = do(users, "list_sessions", given, request=request)
        assert (found.user_id, found.is_current) == (text, True)
        assert do(users, "count_sessions", given) == 1
    assert do(users, "signed_in_user_ids") == [text]
    assert do(users, "revoke_session", user, found.id).id == found.id
    assert do(users, "revoke_all_sessions", user) == 0


def test_a_user_model_needs_no_password(do, sign_in):
    member = model(models.UUIDField(primary_key=True), models.Model)(pk=UUID(UUID_TEXT))
    sign_in(member)
    change(sign_in(member).session, auth_hash=b"of a password")

    assert do(users, "count_sessions", member) == 2


NEW = model(models.UUIDField(primary_key=True, default=uuid4), models.Model)()
NOBODY = [
    (AnonymousUser(), "An anonymous user"),
    (SimpleLazyObject(AnonymousUser), "An anonymous user"),
    (User(username="new"), "never saved"),
    (NEW, "never saved"),
    (7, "not int"),
    (None, "not NoneType"),
    ("", "is empty"),
    (b"7", "not bytes"),
]


@pytest.mark.parametrize(("given", "message"), NOBODY)
def test_what_is_no_user_has_no_id(given, message):
    with pytest.raises(ValueError, match=message):
        users.id_of(given)


def test_what_is_no_user_is_an_error_of_each_function(do):
    functions = ["list_sessions", "count_sessions", "revoke_session", "revoke_all_sessions"]
    for name in functions:
        args = ["an id"] if name == "revoke_session" else []
        with pytest.raises(ValueError, match="An anonymous user"):
            do(users, name, AnonymousUser(), *args)


def test_an_id_is_compared_as_a_whole(do, sign_in):
    sign_in(ALICE)
    sign_in(BOB)

    assert do(users, "count_sessions", "7") == 1
    assert do(users, "count_sessions", '{"$gt": ""}') == 0


def test_all_who_are_signed_in_are_known_once_each(do, sign_in, stored):
    for user in (BOB, ALICE, BOB):
        sign_in(user)
    change(stored(a=1), user_id=7)  # no session of ours has that

    assert do(users, "signed_in_user_ids") == ["7", "77"]


# What someone with access to the database has written

ODD = [None, 7, 1.5, True, "text", b"bytes", [], ["7"], {"$gt": ""}, ObjectId(OBJECT_ID)]


def odd(store, *fields):
    """Let each of these fields of the only session have each odd value, one after the other."""
    [document] = collection().find({})
    for field, value in itertools.product(fields, ODD):
        change(store, **{field: value})
        yield field, value
        change(store, **document)


def test_a_value_that_is_no_text_is_not_shown(do, sign_in):
    store = sign_in(ALICE).session
    change(store, address="203.0.113.7", user_agent=FIREFOX, impersonator_id=None)

    for field, value in odd(store, "address", "user_agent", "impersonator_id"):
        found = do(users, "list_sessions", ALICE)

        if isinstance(value, str) and field == "impersonator_id":
            assert found == []
        else:
            expected = value if isinstance(value, str) else None
            assert [getattr(each, field) for each in found] == [expected], (field, value)
            json.dumps([each.as_dict() for each in found])


def test_a_hash_that_is_no_hash_ends_nothing_that_lives(do, sign_in):
    for _, value in odd(sign_in(ALICE).session, "auth_hash"):
        is_live = not isinstance(value, bytes)
        assert do(users, "count_sessions", ALICE) == is_live, value


def test_a_session_with_a_date_that_is_none_is_left_out(do, sign_in):
    for changed in odd(sign_in(ALICE).session, "created_at", "seen_at", "expires_at"):
        assert do(users, "list_sessions", ALICE) == [], changed
        assert do(users, "revoke_all_sessions", ALICE) == 0, changed

    assert do(users, "count_sessions", ALICE) == 1


@MONGOD
@pytest.mark.parametrize("value", [DatetimeMS(2**62), DatetimeMS(-(2**62))])
@pytest.mark.parametrize("field", ["created_at", "seen_at", "expires_at"])
def test_one_that_python_has_no_date_for_is_left_out(do, sign_in, field, value):
    change(sign_in(ALICE).session, **{field: value})

    assert do(users, "list_sessions", ALICE) == []


@pytest.mark.parametrize("value", [datetime(1, 1, 1), datetime(9999, 12, 31)])
def test_the_first_and_the_last_date_are_shown(do, sign_in, value):
    change(sign_in(ALICE).session, created_at=value, seen_at=value)

    [found] = do(users, "list_sessions", ALICE)

    assert found.created_at == found.last_seen_at == value.replace(tzinfo=timezone.utc)
    json.dumps(found.as_dict())


@pytest.mark.parametrize("value", [7, "text", ObjectId(OBJECT_ID)])
def test_a_document_that_has_no_id_of_ours_is_left_out(do, sign_in, value):
    sign_in(ALICE)
    [document] = collection().find({})
    collection().insert_one({**document, "_id": value})

    assert do(users, "count_sessions", ALICE) == 1


def test_one_of_several_users_is_left_out(do, sign_in):
    change(sign_in(BOB).session, user_id=["7", "77"])

    assert do(users, "list_sessions", ALICE) == []
    assert do(users, "revoke_all_sessions", ALICE) == 0


def test_whoever_writes_a_users_id_signs_nobody_in(do, sign_in, stored):
    store = stored(a=1)
    change(store, user_id="7")

    assert do(users, "count_sessions", ALICE) == 1
    assert not get_user(a_request(store.session_key)).is_authenticated


# Passwords


def new_password(user):
    return User(pk=user.pk, username=user.username, password="a new one")


def test_a_new_password_ends_sessions_at_once(do, sign_in):
    sign_in(ALICE)
    changed = new_password(ALICE)
    request = sign_in(changed)

    [found] = do(users, "list_sessions", changed, request=request)

    assert found.is_current
    assert do(users, "count_sessions", changed) == 1


def test_for_an_id_the_password_is_not_known(do, sign_in):
    sign_in(ALICE)
    sign_in(new_password(ALICE))

    assert do(users, "count_sessions", "7") == 2


def test_those_that_a_new_password_has_ended_are_ended_too(do, sign_in):
    sign_in(ALICE)

    assert do(users, "revoke_all_sessions", new_password(ALICE)) == 1


def test_a_session_stored_by_an_earlier_version_is_listed(do, sign_in):
    sign_in(ALICE)
    collection().update_many({}, {"$unset": {"auth_hash": True}})

    assert do(users, "count_sessions", ALICE) == 1


@pytest.fixture
def rotate(settings):
    """Rotate SECRET_KEY."""

    def rotate():
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
        settings.SECRET_KEY = "a new one" * 8

    return rotate


def test_a_new_secret_key_ends_none_while_the_old_one_is_a_fallback(do, sign_in, rotate, settings):
    sign_in(ALICE)
    rotate()
    sign_in(ALICE)

    assert do(users, "count_sessions", ALICE) == 2

    settings.SECRET_KEY_FALLBACKS = []
    assert do(users, "count_sessions", ALICE) == 1


# Impersonation

HIJACKED = {"hijack_history": ["1", "2"]}


def test_a_session_of_an_impersonator_is_not_the_users_own(do, sign_in):
    own, other = sign_in(ALICE), sign_in(ALICE, **HIJACKED)
    [found] = do(users, "list_sessions", ALICE, request=own)

    assert found.is_current
    assert do(users, "count_sessions", ALICE) == 1
    assert do(users, "revoke_other_sessions", own) == 0
    assert do(users, "revoke_all_sessions", ALICE) == 1
    assert is_stored(other)


def test_nor_does_it_end_by_an_id(do, sign_in):
    request = sign_in(ALICE, **HIJACKED)
    change(request.session, impersonator_id=None)
    [found] = do(users, "list_sessions", ALICE)
    change(request.session, impersonator_id="1")

    assert do(users, "revoke_session", ALICE, found.id) is None
    assert is_stored(request)


def test_an_impersonator_cannot_end_the_own_session_but_the_users(do, sign_in):
    sign_in(ALICE)
    impersonating = sign_in(ALICE, **HIJACKED)

    assert do(users, "list_sessions", ALICE, request=impersonating)[0].is_current is False
    assert do(users, "revoke_all_sessions", ALICE, request=impersonating) == 1
    assert is_stored(impersonating)


class Loginas(SessionStore):
    def impersonator_id(self, data):
        return data.get("_go_to_admin")


def test_another_package_may_say_who_impersonates(do, stored):
    stored(Loginas, **data_of(ALICE), _go_to_admin="1")
    stored(Loginas, **data_of(ALICE), **HIJACKED)

    assert do(users, "count_sessions", ALICE) == 1
    assert collection().count_documents({"impersonator_id": "1"}) == 1


# Ids of sessions

JUNK = [
    *("", " ", "a", "A" * 21, "A" * 22, "A" * 23, "\0", "ä", "\ud800", "x" * 100_000),
    *(None, 0, 1.5, b"", b"A" * 22, [], {}, object(), UNKNOWN, {"$ne": None}, True),
]


def test_whatever_is_no_id_ends_nothing(do, sign_in):
    sign_in(ALICE)
    [found] = do(users, "list_sessions", ALICE)
    other_forms = [found.id.swapcase(), found.id.encode(), found.id + "=", list(found.id)]

    for given in (*JUNK, *other_forms):
        assert do(users, "revoke_session", ALICE, given) is None, repr(given)[:20]

    assert count_sessions() == 1


def test_nor_does_a_key_or_the_id_of_a_document(do, sign_in):
    key = sign_in(ALICE).session.session_key
    document_id = documents.document_id(key)

    for given in (key, document_id, document_id.hex()):
        assert do(users, "revoke_session", ALICE, given) is None

    assert count_sessions() == 1


def test_an_id_names_a_session_among_those_of_its_user_only(do, sign_in):
    sign_in(ALICE)
    sign_in(BOB)
    [found] = do(users, "list_sessions", BOB)

    assert do(users, "revoke_session", ALICE, found.id) is None

    assert count_sessions() == 2


def test_a_session_ends_once(do, sign_in):
    kept, ended = sign_in(ALICE), sign_in(ALICE)
    found = do(users, "list_sessions", ALICE, request=ended)[0]

    assert do(users, "revoke_session", ALICE, found.id).created_at == found.created_at
    assert do(users, "revoke_session", ALICE, found.id) is None

    assert not is_stored(ended)
    assert is_stored(kept)


def test_an_id_outlives_a_new_secret_key_while_the_old_one_is_a_fallback(do, sign_in, rotate):
    sign_in(ALICE)
    [found] = do(users, "list_sessions", ALICE)
    rotate()

    assert do(users, "list_sessions", ALICE)[0].id != found.id
    assert do(users, "revoke_session", ALICE, found.id) is not None
    assert count_sessions() == 0


def test_without_the_fallback_it_names_nothing(do, sign_in, rotate, settings):
    sign_in(ALICE)
    [found] = do(users, "list_sessions", "7")
    rotate()
    settings.SECRET_KEY_FALLBACKS = []

    assert do(users, "revoke_session", "7", found.id) is None


# Ending


class Browser:
    """A browser that is signed in, and a view that ends sessions, behind the middleware."""

    def __init__(self, session):
        self.request = RequestFactory().get("/")
        self.request.COOKIES["sessionid"] = session.session_key
        self.result = None

    def ends(self, name, *args):
        def view(request):
            self.result = getattr(users, name)(*args, request=request)
            return HttpResponse()

        return SessionMiddleware(view)(self.request)

    async def aends(self, name, *args):
        async def view(request):
            self.result = await getattr(users, f"a{name}")(*args, request=request)
            return HttpResponse()

        return await SessionMiddleware(view)(self.request)


def test_ones_own_session_is_flushed_and_its_cookie_deleted(do, sign_in):
    sign_in(ALICE)
    browser = Browser(sign_in(ALICE).session)
    [newest, _] = do(users, "list_sessions", ALICE)

    response = do(browser, "ends", "revoke_session", ALICE, newest.id)

    assert browser.result.is_current
    assert browser.request.session.session_key is None
    assert response.cookies["sessionid"].value == ""
    assert response.cookies["sessionid"]["max-age"] == 0
    assert count_sessions() == 1


def test_so_it_is_when_all_end(do, sign_in):
    sign_in(ALICE)
    browser = Browser(sign_in(ALICE).session)

    response = do(browser, "ends", "revoke_all_sessions", ALICE)

    assert browser.result == 2
    assert browser.request.session.session_key is None
    assert response.cookies["sessionid"].value == ""
    assert count_sessions() == 0


@pytest.mark.parametrize("name", ["revoke_session", "revoke_all_sessions"])
def test_a_session_of_someone_else_stays_with_its_request(do, sign_in, name):
    sign_in(ALICE)
    browser = Browser(sign_in(BOB).session)
    [found] = do(users, "list_sessions", ALICE)

    ids = [found.id] if name == "revoke_session" else []
    response = do(browser, "ends", name, ALICE, *ids)

    assert browser.result
    assert not response.cookies
    assert do(users, "signed_in_user_ids") == ["77"]


def test_without_the_request_its_session_is_gone_from_the_database_all_the_same(do, sign_in):
    request = sign_in(ALICE)

    assert do(users, "revoke_all_sessions", ALICE) == 1

    assert request.session.session_key is not None
    assert not is_stored(request)


def test_the_others_end_and_the_own_one_stays(do, sign_in):
    sign_in(ALICE)
    own = sign_in(ALICE)
    sign_in(ALICE)
    sign_in(BOB)

    assert do(users, "revoke_other_sessions", own) == 2
    assert do(users, "revoke_other_sessions", own) == 0

    [found] = do(users, "list_sessions", ALICE, request=own)
    assert found.is_current
    assert do(users, "signed_in_user_ids") == ["7", "77"]


def without_a_session():
    return RequestFactory().get("/")


def with_another_engine():
    request = RequestFactory().get("/")
    request.session = signed_cookies.SessionStore()
    request.session.update(data_of(ALICE))
    return request


@pytest.mark.parametrize(
    "make", [without_a_session, with_another_engine, a_request, lambda: a_request(UNKNOWN)]
)
def test_a_request_of_nobody_has_no_others(do, sign_in, make):
    sign_in(ALICE)

    assert do(users, "revoke_other_sessions", make()) == 0

    assert count_sessions() == 1


def test_nor_has_an_anonymous_visitor_with_a_session(do, sign_in, stored):
    sign_in(ALICE)

    assert do(users, "revoke_other_sessions", a_request(stored(a=1).session_key)) == 0

    assert count_sessions() == 2


async def auser_of(user):
    return user


@pytest.mark.parametrize("has_auser", [True, False])
@pytest.mark.parametrize(("user", "count"), [(ALICE, 1), (AnonymousUser(), 0)])
def test_a_session_that_a_new_password_has_ended_ends_no_others(
    do, sign_in, user, count, has_auser
):
    sign_in(ALICE)
    request = sign_in(ALICE)
    request.user = SimpleLazyObject(lambda: user)
    if has_auser:
        request.auser = lambda: auser_of(user)

    assert do(users, "revoke_other_sessions", request) == count


def test_the_session_of_a_request_that_has_got_a_new_key_is_its_own(do, sign_in):
    request = sign_in(ALICE)
    do(request.session, "_get_session")
    do(request.session, "cycle_key")

    assert do(users, "revoke_other_sessions", request) == 0
    assert do(users, "list_sessions", ALICE, request=request)[0].is_current


def test_a_request_under_way_cannot_store_a_session_that_has_ended(do, sign_in):
    request = sign_in(ALICE)
    do(request.session, "_get_session")
    do(users, "revoke_all_sessions", ALICE)
    request.session["a"] = 1

    with pytest.raises(UpdateError, match="was deleted"):
        do(request.session, "save")

    assert count_sessions() == 0


# Commands


@MONGOD
def test_a_list_is_one_command_that_reads_no_payload(do, sign_in, commands):
    for _ in range(3):
        sign_in(ALICE)
    commands.sent.clear()

    assert len(do(users, "list_sessions", ALICE)) == 3

    [(name, command)] = commands.sent
    assert name == "find"
    assert command["filter"] == {"user_id": "7"}
    assert set(command["projection"].values()) == {True}
    assert "payload" not in command["projection"]


@MONGOD
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("count_sessions", ["find"]),
        ("revoke_all_sessions", ["find", "delete", "find"]),
    ],
)
def test_a_function_sends_these_commands(do, sign_in, commands, name, sent):
    sign_in(ALICE)
    sign_in(ALICE)
    commands.sent.clear()

    assert do(users, name, ALICE) == 2

    assert commands.names() == sent


@MONGOD
def test_to_know_who_is_signed_in_is_one_command(do, sign_in, commands):
    sign_in(ALICE)
    commands.sent.clear()

    do(users, "signed_in_user_ids")

    assert commands.names() == ["distinct"]


@MONGOD
def test_an_id_that_names_nothing_is_one_command(do, sign_in, commands):
    sign_in(ALICE)
    commands.sent.clear()

    do(users, "revoke_session", ALICE, "junk")

    assert commands.names() == ["find"]


NOWHERE = {"URI": "mongodb://127.0.0.1:1", "TIMEOUT": 0.1}
CALLS = [
    ("list_sessions", [ALICE]),
    ("count_sessions", [ALICE]),
    ("revoke_session", [ALICE, "junk"]),
    ("revoke_all_sessions", [ALICE]),
    ("revoke_other_sessions", [a_request(UNKNOWN)]),
    ("signed_in_user_ids", []),
]


@pytest.fixture
def collected():
    """Collect what the loop left, so that it is this test's, and not the next one's."""
    yield
    gc.collect()


# PyMongo leaves a connection to the garbage collector if the loop ends while it is opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@MONGOD
@pytest.mark.parametrize(("name", "args"), CALLS)
def test_an_outage_is_pymongos_error(collected, do, settings, soon_told, name, args):
    record(settings, **NOWHERE)

    for _ in range(2):  # the second one is not sent
        with pytest.raises(PyMongoError):
            do(users, name, *args)


# Signals


@pytest.fixture
def receive():
    """`receive(signal, receiver)` connects a receiver for the test."""
    connected = []

    def receive(signal, receiver):
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield receive
    for signal, receiver in connected:
        signal.disconnect(receiver)


HAS_ASYNC_RECEIVERS = pytest.mark.skipif(
    django.VERSION < (5, 0), reason="Django 4.2 has no asynchronous receivers"
)


@pytest.fixture(params=["sync", pytest.param("async", marks=HAS_ASYNC_RECEIVERS)])
def receiver(request):
    """What is called when a signal is sent: a function that a receiver of either form calls."""

    def make(function):
        def receiver(**kwargs):
            function(**kwargs)

        async def areceiver(**kwargs):
            function(**kwargs)

        return receiver if request.param == "sync" else areceiver

    return make


def test_each_session_that_has_ended_is_announced(do, sign_in, receive, receiver):
    sign_in(ALICE)
    request = sign_in(ALICE)
    seen = []

    def note(**kwargs):
        kwargs["left"] = count_sessions()
        seen.append(kwargs)

    receive(session_revoked, receiver(note))
    listed = do(users, "list_sessions", ALICE, request=request)

    do(users, "revoke_all_sessions", ALICE, request=request)

    assert [each["session"] for each in seen] == listed
    for each in seen:
        assert each["signal"] is session_revoked
        assert each["sender"] is users.UserSession
        assert each["reason"] == "all"
        assert each["request"] is request
        assert each["left"] == 0  # it is sent after the acknowledgement


def test_the_reason_says_what_has_ended_it(do, sign_in, receive, receiver):
    seen = []
    receive(
        session_revoked,
        receiver(lambda reason, request, **kwargs: seen.append((reason, request))),
    )
    sign_in(ALICE)
    own = sign_in(ALICE)

    do(users, "revoke_other_sessions", own)
    [found] = do(users, "list_sessions", ALICE)
    do(users, "revoke_session", ALICE, found.id)

    assert seen == [("others", own), ("user", None)]


def test_what_ends_nothing_announces_nothing(do, sign_in, receive, receiver):
    seen = []
    receive(session_revoked, receiver(lambda **kwargs: seen.append(kwargs)))
    own = sign_in(ALICE)

    do(users, "revoke_other_sessions", own)
    do(users, "revoke_session", ALICE, "junk")
    do(users, "revoke_all_sessions", BOB)

    assert seen == []


def meanwhile(monkeypatch, name, act):
    """Let something happen once, right before an operation with this name is sent."""
    operation, left = getattr(operations, name), [act]

    def later(*args):
        if left:
            left.pop()()
        return operation(*args)

    monkeypatch.setattr(operations, name, later)


def test_what_has_ended_by_itself_is_not_counted(do, sign_in, monkeypatch):
    sign_in(ALICE)
    other = sign_in(ALICE).session
    meanwhile(monkeypatch, "delete_of_user", other.flush)

    assert do(users, "revoke_all_sessions", ALICE) == 1


def test_what_moves_is_ended_and_announced_once(do, sign_in, receive, monkeypatch):
    sign_in(ALICE)
    other = sign_in(ALICE).session
    do(other, "_get_session")
    seen = []
    receive(session_revoked, lambda session, **kwargs: seen.append(session.id))
    meanwhile(monkeypatch, "delete_of_user", other.cycle_key)

    assert do(users, "revoke_all_sessions", ALICE) == 2
    assert count_sessions() == 0
    assert len(set(seen)) == len(seen) == 2


def test_if_nothing_is_left_to_end_nothing_is_announced(do, sign_in, receive, monkeypatch):
    own = sign_in(ALICE).session
    seen = []
    receive(session_revoked, lambda session, **kwargs: seen.append(session.id))
    meanwhile(monkeypatch, "delete_of_user", own.flush)

    assert do(users, "revoke_all_sessions", ALICE) == 0
    assert seen == []


def test_what_has_ended_is_announced_before_an_outage(do, sign_in, receive, monkeypatch):
    sign_in(ALICE)
    seen = []

    def note(session, **kwargs):
        seen.append(session.id)
        monkeypatch.setattr(operations, "find_of_user", fail)

    def fail(*args):
        raise AutoReconnect("connection closed")

    receive(session_revoked, note)

    with pytest.raises(AutoReconnect):
        do(users, "revoke_all_sessions", ALICE)

    assert len(seen) == 1


def test_a_session_that_another_request_has_moved_is_still_the_requests_own(do, sign_in):
    sign_in(ALICE)
    own = sign_in(ALICE)
    do(own.session, "_get_session")
    parallel = SessionStore(own.session.session_key)
    for _ in range(2):
        do(parallel, "_get_session")
        do(parallel, "cycle_key")

    assert do(users, "revoke_other_sessions", own) == 1
    assert do(parallel, "exists", parallel.session_key)


@MONGOD
def test_a_session_whose_record_cannot_be_decoded_can_be_ended(do, sign_in, settings):
    sign_in(ALICE)
    change(sign_in(ALICE).session, address=Binary(b"too short", UUID_SUBTYPE))
    options = settings.MONGO_SESSIONS["CLIENT_OPTIONS"]
    record(settings, CLIENT_OPTIONS={**options, "uuidRepresentation": "standard"})

    assert do(users, "count_sessions", ALICE) == 2
    assert do(users, "revoke_all_sessions", ALICE) == 2


def test_while_a_password_changes_the_current_session_stays_in_its_list(do, sign_in):
    own, _ = sign_in(ALICE), sign_in(ALICE)
    alice = User(pk=7, username="alice", password="a new one")

    assert [each.is_current for each in do(users, "list_sessions", alice, request=own)] == [True]
    assert do(users, "list_sessions", alice) == []


def test_a_receiver_that_raises_breaks_nothing(do, sign_in, receive, receiver):
    seen = []

    def fail(**kwargs):
        raise RuntimeError("the receiver's own")

    receive(session_revoked, receiver(fail))
    receive(session_revoked, receiver(lambda **kwargs: seen.append(kwargs["reason"])))
    request = sign_in(ALICE)

    assert do(users, "revoke_all_sessions", ALICE, request=request) == 1

    assert seen == ["all"]
    assert request.session.session_key is None


def test_without_a_way_to_await_a_receiver_the_other_ones_run(do, sign_in, receive, monkeypatch):
    """Django 4.2 has no asend_robust()."""
    seen = []
    signal = SimpleNamespace(send_robust=lambda sender, **kwargs: seen.append(kwargs["reason"]))
    monkeypatch.setattr("django_mongo_sessions.engine.signed_in.session_revoked", signal)
    sign_in(ALICE)

    do(users, "revoke_all_sessions", ALICE)

    assert seen == ["all"]


@HAS_ASYNC_RECEIVERS
def test_a_blocking_call_in_an_event_loop_awaits_no_receiver_but_says_so(
    mongod_engine, receive, logged
):
    seen = []

    async def areceiver(**kwargs):
        seen.append("awaited")

    async def page():
        return users.revoke_all_sessions(ALICE)

    receive(session_revoked, areceiver)
    receive(session_revoked, lambda **kwargs: seen.append("called"))
    store = SessionStore()
    store.update(data_of(ALICE))
    store.save()

    assert asyncio.run(page()) == 1

    assert seen == ["called"]
    [error] = [each for each in logged() if each.levelno == logging.ERROR]
    assert "could not be awaited" in error.getMessage()


# Another client


@pytest.fixture
def changes(receive, receiver):
    """What session_client_changed was sent with."""
    seen = []
    receive(session_client_changed, receiver(lambda **kwargs: seen.append(kwargs)))
    return seen


def visit(do, store, user_agent, verb="save"):
    """Save the session in a request of this browser, and return the request."""
    request = RequestFactory().get("/", HTTP_USER_AGENT=user_agent)
    store = SessionStore(store.session_key)
    store._client = ClientInfo(request)
    do(store, "_get_session")
    store["visits"] = store.get("visits", 0) + 1
    do(store, verb)
    return request, store


@pytest.fixture
def recorded(settings, do):
    """A session that a browser has stored, where the site records it."""
    record(settings, USER_AGENT=True)
    store = SessionStore()
    request = RequestFactory().get("/", HTTP_USER_AGENT=FIREFOX)
    store._client = ClientInfo(request)
    store.update(data_of(ALICE))
    do(store, "save")
    return store


def test_the_first_client_is_no_change(do, recorded, changes):
    visit(do, recorded, FIREFOX)

    assert changes == []


@pytest.mark.parametrize("verb", ["save", "cycle_key"])
def test_another_browser_is_announced_once(do, recorded, changes, verb):
    request, store = visit(do, recorded, SAFARI, verb)
    visit(do, store, SAFARI)

    [change] = changes
    assert change["signal"] is session_client_changed
    assert change["sender"] is SessionStore
    assert change["request"] is request
    assert change["before"] == {"user_agent": FIREFOX, "address": None}
    assert change["after"] == {"user_agent": SAFARI, "address": None}


def test_so_it_is_by_a_class_with_a_method_of_its_own(do, recorded, changes):
    class Own(SessionStore):
        def delete(self, session_key=None):
            super().delete(session_key)

        async def adelete(self, session_key=None):
            await super().adelete(session_key)

    request = RequestFactory().get("/", HTTP_USER_AGENT=SAFARI)
    store = Own(recorded.session_key)
    store._client = ClientInfo(request)
    do(store, "cycle_key")

    assert [each["after"]["user_agent"] for each in changes] == [SAFARI]


def test_it_is_recorded_when_it_is_announced(do, recorded, receive):
    seen = []
    receive(
        session_client_changed,
        lambda **kwargs: seen.append(collection().find_one({})["user_agent"]),
    )

    visit(do, recorded, SAFARI)

    assert seen == [SAFARI]


def test_a_client_that_is_not_known_is_no_change(do, recorded, changes):
    visit(do, recorded, "")
    visit(do, recorded, FIREFOX)

    assert changes == []


def test_to_record_no_longer_is_no_change(do, recorded, changes, settings):
    record(settings, USER_AGENT=False)

    visit(do, recorded, SAFARI)

    assert changes == []
    assert "user_agent" not in collection().find_one({})


def test_nor_is_what_else_is_recorded(do, recorded, changes):
    request = a_request(recorded.session_key)
    do(request.session, "_get_session")
    request.session[HASH_SESSION_KEY] = "another"
    do(request.session, "save")

    assert changes == []


def test_a_session_outside_of_a_request_has_no_request_to_announce(do, recorded, changes):
    store = SessionStore(recorded.session_key)
    do(store, "_get_session")
    store._client = SimpleNamespace(request=None, describe=lambda: {"user_agent": SAFARI})
    store["a"] = 1
    do(store, "save")

    assert [each["request"] for each in changes] == [None]
