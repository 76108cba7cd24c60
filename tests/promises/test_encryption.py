"""Encrypted sessions: what happens if a key is missing, and what each setting stores and opens."""

import asyncio
import base64
import os
import subprocess
import sys
import threading
from contextlib import suppress

import bson
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.views.debug import ExceptionReporter
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from pymongo.errors import DocumentTooLarge

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import session as engine_session
from django_mongo_sessions.exceptions import KeysUnavailable
from django_mongo_sessions.management import encrypting
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.storage import codec, documents, keyring
from django_mongo_sessions.users import list_sessions
from tests.conftest import collection, count_sessions, encrypt_with, end
from tests.promises.test_interleavings import options

A, B = bytes(range(32)), bytes(range(100, 132))
A_ID, B_ID = (keyring.MasterKey(secret).id.hex() for secret in (A, B))
VALUE = "a value that nobody may see"


def saved(**data):
    store = SessionStore()
    store.update(data)
    store.save()
    return store


def the_document():
    [document] = collection().find()
    return document


# In every failure case


def reads(request):
    return HttpResponse(request.session.get("a", "nothing"))


async def areads(request):
    return HttpResponse((await request.session.aload()).get("a", "nothing"))  # 4.2 has no aget()


def saves(request):
    """Leave the save to the middleware."""
    request.session["a"] = "another"
    return HttpResponse("written")


urlpatterns = [path(view.__name__, view) for view in (reads, areads, saves)]
handler500 = "django.views.defaults.server_error"


@pytest.fixture(params=["blocking", "asynchronous"])
def get(request, mongod_engine, settings):
    """Request a page as the browser that has this session."""
    settings.ROOT_URLCONF = __name__
    settings.TEMPLATES = []
    settings.MIDDLEWARE = ["django_mongo_sessions.middleware.SessionMiddleware"]
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}
    loop = asyncio.new_event_loop()

    def get(store, url=None):
        is_blocking = request.param == "blocking"
        client = (Client if is_blocking else AsyncClient)(raise_request_exception=False)
        client.cookies["sessionid"] = store.session_key
        response = client.get(f"/{url or ('reads' if is_blocking else 'areads')}")
        return response if is_blocking else loop.run_until_complete(response)

    yield get
    end(loop)


def altered(place):
    def alter():
        payload = bytearray(the_document()["payload"])
        payload[place] ^= 1
        collection().update_one({}, {"$set": {"payload": bytes(payload)}})

    return alter


def moved_in_time():
    document = the_document()
    later = {"created_at": document["expires_at"]}
    collection().update_one({}, {"$set": later})


def copied_from_another():
    own = the_document()
    other = saved(a=VALUE)
    found = collection().find_one({"_id": {"$ne": own["_id"]}})
    fields = {name: found[name] for name in ("payload", "created_at")}
    collection().update_one({"_id": own["_id"]}, {"$set": fields})
    other.delete()
    collection().delete_many({"_id": {"$ne": own["_id"]}})


REFUSED = {
    "no such key": (
        A,
        lambda monkeypatch: encrypt_with(monkeypatch, B),
        f"no encryption key has the id {A_ID}",
    ),
    "keys taken out": (A, lambda monkeypatch: encrypt_with(monkeypatch), "has no ENCRYPTION_KEYS"),
    "not encrypted": (None, lambda monkeypatch: encrypt_with(monkeypatch, A), "transition"),
    "commitment": (A, lambda monkeypatch: altered(30)(), f"with the key {A_ID}: its commitment"),
    "tag": (A, lambda monkeypatch: altered(-1)(), f"with the key {A_ID}: its tag"),
    "moment": (A, lambda monkeypatch: moved_in_time(), "commitment"),
    "document": (A, lambda monkeypatch: copied_from_another(), "commitment"),
}


@pytest.mark.parametrize(("key", "change", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_open_is_refused_and_kept(get, monkeypatch, logged, key, change, reason):
    encrypt_with(monkeypatch, *([key] if key else []))
    store = saved(a=VALUE)
    change(monkeypatch)
    before = the_document()

    response = get(store)

    assert (response.status_code, response.content) == (200, b"nothing")
    assert "sessionid" not in response.cookies
    assert the_document() == before
    [record] = [record for record in logged() if record.levelname == "WARNING"]
    assert before["_id"].hex() in record.getMessage()
    assert reason in record.getMessage()
    get(store, "saves")
    assert collection().find_one({"_id": before["_id"]}) == before  # stored under another key
    assert count_sessions() == 2


def test_a_payload_does_not_open_for_another_cookie(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, A)
    saved(a=VALUE)
    document, stranger = the_document(), SessionStore("0123456789abcdefghijklmnopqrstuv")
    binding = document["_id"] + bytes(8)

    with pytest.raises(Exception, match="commitment"):
        codec.decrypt(document["payload"], binding, stranger.session_key, keyring.source().get())


@pytest.mark.parametrize("url", [None, "saves"])
def test_keys_that_cannot_be_had_are_an_outage(get, monkeypatch, url):
    encrypt_with(monkeypatch, A)
    store = saved(a=VALUE)
    before = the_document()
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: 1 / 0)

    response = get(store, url)
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    assert "sessionid" not in response.cookies
    assert the_document() == before

    encrypt_with(monkeypatch, A)
    assert get(store).content == VALUE.encode()


def test_keys_that_come_back_open_the_session(get, monkeypatch):
    monkeypatch.setattr(keyring, "RETRY_INTERVAL", 0)
    encrypt_with(monkeypatch, A)
    store = saved(a=VALUE)
    failures = [LookupError()]

    def keys():
        if failures:
            raise failures.pop()
        return [A]

    encrypt_with(monkeypatch, ENCRYPTION_KEYS=keys)
    assert [get(store).status_code for _ in range(2)] == [503, 200]


def test_a_key_that_is_missing_is_looked_for(get, monkeypatch):
    encrypt_with(monkeypatch, B)
    store = saved(a=VALUE)
    rings = [[A, B], [A]]
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: rings.pop())
    saved(b=1)

    assert get(store).content == VALUE.encode()


@pytest.mark.parametrize("given", [[A.hex()[1:]], A.hex(), None])
@pytest.mark.parametrize("by_function", [True, False])
def test_nonsense_instead_of_keys_is_an_error(get, monkeypatch, caplog, given, by_function):
    encrypt_with(monkeypatch, A)
    store = saved(a=VALUE)
    before = the_document()
    encrypt_with(
        monkeypatch, ENCRYPTION_KEYS=(lambda: given) if by_function else given, mode="only"
    )

    for url in (None, "saves"):
        response = get(store, url)
        assert response.status_code == 500
        assert "sessionid" not in response.cookies
    encrypt_with(monkeypatch, A)
    assert the_document() == before
    assert "ImproperlyConfigured" in caplog.text
    assert A.hex()[1:] not in caplog.text


def test_without_the_package_nothing_is_stored_in_plain_text(get, monkeypatch):
    encrypt_with(monkeypatch, A)
    store = saved(a=VALUE)
    before = the_document()
    encrypt_with(monkeypatch, A)
    keyring.cipher.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography", None)

    assert get(store, "saves").status_code == 500
    with pytest.raises(ImproperlyConfigured):
        saved(a=VALUE)
    assert the_document() == before
    keyring.cipher.cache_clear()


def test_a_session_that_is_too_large_is_refused(mongod_engine, monkeypatch):
    monkeypatch.setattr(codec, "MAX_BODY", 1000)
    monkeypatch.setattr("django_mongo_sessions.engine.mapping.LARGE_BODY", 900)
    encrypt_with(monkeypatch, A)

    with pytest.raises(DocumentTooLarge, match="At most 1,000"):
        saved(a="x" * 1000)


def test_a_touch_does_without_the_keys(mongod_engine, monkeypatch, logged):
    key = saved(a=1).session_key
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: 1 / 0, mode="transition")
    store = SessionStore(key)
    assert store._get_session() == {"a": 1}

    assert store._touch() is False
    assert "ZeroDivisionError" in logged()[-1].getMessage()


# Where the keys come from


@pytest.mark.parametrize("kind", ["native", "threads"])
def test_a_loop_goes_on_while_the_keys_are_asked_for(mongod_engine, monkeypatch, kind):
    encrypt_with(monkeypatch, A)
    key = saved(a=VALUE).session_key
    goes_on, threads = threading.Event(), []

    def keys():
        threads.append(threading.get_ident())
        assert goes_on.wait(10)
        return [A]

    encrypt_with(monkeypatch, ENCRYPTION_KEYS=keys, ASYNC=kind)

    async def let_go_on():
        while not threads:
            await asyncio.sleep(0.001)
        goes_on.set()

    async def load():
        data, _ = await asyncio.gather(SessionStore(key).aload(), let_go_on())
        return data

    assert asyncio.run(load()) == {"a": VALUE}
    assert threads != [threading.get_ident()]


def test_a_key_is_in_no_traceback(mongod_engine, settings, monkeypatch):
    settings.DEBUG = True
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=keys_of_a_broken_vault)
    store = SessionStore()
    store["a"] = 1
    with pytest.raises(KeysUnavailable) as raised:
        store.save()

    report = ExceptionReporter(None, raised.type, raised.value, raised.tb)
    shown = report.get_traceback_html() + report.get_traceback_text()
    assert "keys_of_a_broken_vault" in shown
    assert "a0b0c0" * 5 not in shown


def keys_of_a_broken_vault():
    found = "a0b0c0" * int("5")
    raise LookupError(len(found))


# What is stored


MODES = [None, "prepare", "transition", "only"]
RINGS = [[A], [A, B], [B, A], [B]]


class Hosts(RuleBasedStateMachine):
    """One session, and hosts with any settings."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.monkeypatch = monkeypatch
        self.configure(None, [A])
        collection().delete_many({})
        self.key, self.data = saved(n=0).session_key, {"n": 0}
        self.form = self.written()

    def written(self):
        if self.mode in (None, "prepare"):
            return codec.PLAIN, None
        return codec.BOUND, keyring.MasterKey(self.ring[0]).id.hex()

    @property
    def opens(self):
        form, key_id = self.form
        if form == codec.PLAIN:
            return self.mode != "only"
        return self.mode is not None and key_id in keyring.read(self.ring).ids()

    @rule(mode=st.sampled_from(MODES), ring=st.sampled_from(RINGS))
    def configure(self, mode, ring):
        self.mode, self.ring = mode, ring
        encrypt_with(self.monkeypatch, *(ring if mode else []), mode=mode)

    @rule()
    def load(self):
        assert SessionStore(self.key).load() == (self.data if self.opens else {})

    @rule(changes=st.booleans(), verb=st.sampled_from(["save", "cycle_key", "mutate", "_touch"]))
    def write(self, changes, verb):
        store = SessionStore(self.key)
        store._get_session()
        if changes and verb != "_touch":
            store["n"] = store.get("n", 0) + 1
        getattr(store, verb)(*([lambda data: None] if verb == "mutate" else []))
        if not self.opens and verb != "cycle_key" and not store._session_cache:
            return  # nothing was stored
        assert self.opens or store.session_key != self.key  # what does not open is kept
        self.key, self.data = store.session_key, dict(store._session_cache)
        self.form = self.written()

    @rule()
    def encrypt(self):
        with suppress(ImproperlyConfigured):
            run(encrypting.encrypt(False, False, lambda seen: None))
            if self.opens and self.form[0] != codec.BOUND:
                self.form = codec.UNBOUND, keyring.MasterKey(self.ring[0]).id.hex()

    @invariant()
    def mongodb_holds_what_the_settings_say(self):
        document = collection().find_one({"_id": documents.document_id(self.key)})
        assert (document["payload"][:1], document.get("key_id")) == self.form
        if document.get("key_id"):
            assert codec.key_id(document["payload"]).hex() == document["key_id"]


def test_each_setting_stores_and_opens_what_it_says(mongod_engine, monkeypatch):
    monkeypatch.setattr(engine_session, "WRITE_INTERVAL", 0)
    examples = options(48, stateful_step_count=20)
    run_state_machine_as_test(lambda: Hosts(monkeypatch), settings=examples)


def test_a_session_that_comes_back_to_plain_text_has_no_key(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, A)
    store = saved(a=1)
    assert the_document()["key_id"] == A_ID
    encrypt_with(monkeypatch, A, mode="prepare")
    store["a"] = 2
    store.save()

    assert "key_id" not in the_document()
    encrypt_with(monkeypatch)
    assert SessionStore(store.session_key).load() == {"a": 2}


def use_a_session():
    """Store a session in every way that there is; return its keys."""
    store = saved(a=VALUE, list=[VALUE])
    keys = [store.session_key]
    other = SessionStore(store.session_key)
    other["b"] = VALUE
    other.save()
    store["c"] = VALUE
    store.save()  # merged
    store.mutate(lambda data: data.update(d=VALUE))
    store.cycle_key()
    keys.append(store.session_key)
    fresh = SessionStore(store.session_key)
    assert set(fresh.load()) == {"a", "b", "c", "d", "list"}
    return keys


def assert_hides(dump, keys):
    inside = {base64.b64encode(VALUE.encode()[n:])[4:-4] for n in range(3)}
    for secret in (VALUE.encode(), *inside, A, A.hex().encode(), *map(str.encode, keys)):
        assert secret not in dump


@pytest.mark.parametrize("compress", [None, 0])
def test_no_value_and_no_key_is_in_the_collection(mongod_engine, monkeypatch, compress):
    encrypt_with(monkeypatch, A, COMPRESS=compress)

    keys = use_a_session()

    assert_hides(b"".join(map(bson.encode, collection().find())), keys)
    assert len(list(collection().find())) == 2  # the session, and a pointer to it


def test_the_sessions_of_a_user_are_listed_without_a_key(mongod_engine, monkeypatch):
    encrypt_with(monkeypatch, A)
    saved(_auth_user_id="7", a=VALUE)
    encrypt_with(monkeypatch, ENCRYPTION_KEYS=lambda: 1 / 0)

    assert len(list_sessions("7")) == 1


def test_a_site_without_keys_notices_nothing():
    result = subprocess.run(
        [sys.executable, "-c", _SITE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.stdout == "as before\n", result.stderr


_SITE = """
import sys
sys.modules["cryptography"] = None  # as if it were not installed
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=["django.contrib.sessions", "django_mongo_sessions"],
    SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
    MONGO_SESSIONS={"URI": "mongomock://"},
)
django.setup()
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.storage import keyring
store = SessionStore()
store["a"] = 1
store.save()
store.cycle_key()
assert SessionStore(store.session_key)["a"] == 1
documents = list(clients.collection().collection.find())
assert sorted(each["payload"][:1] for each in documents) == [b"\\x01", b"\\x05"]
assert not any("key_id" in each for each in documents)
assert keyring._source is None
assert keyring.cipher.cache_info().misses == 0
print("as before")
"""
