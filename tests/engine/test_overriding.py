"""What a subclass overrides is called, wherever Django's own engines call it."""

import asyncio
import threading
from datetime import datetime, timedelta, timezone

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine.overriding import _NAMES, _REFUSED
from django_mongo_sessions.mongo.runner import awaitable_twin
from django_mongo_sessions.storage import dates, documents
from tests.conftest import SESSIONS, collection, count_sessions
from tests.engine.helpers import loaded, the_document

# Which of the two forms a subclass overrides.
FORMS = [("blocking",), ("awaitable",), ("blocking", "awaitable")]


@pytest.fixture
def overriding(request, do):
    """`overriding("save")` yields subclasses that record the calls of their own `save` and `asave`.

    They override one of the two, or both, and each finds no session. Where methods are called and
    not awaited, the blocking one is always among them.
    """
    is_blocking = request.node.callspec.params["do"] == "sync"

    def kinds(*names):
        for forms in FORMS:
            if "blocking" in forms or not is_blocking:
                collection().delete_many({})
                yield recording_kind(forms, names)

    return kinds


def recording_kind(forms, names):
    """Return a subclass that records the calls of these methods, in these forms."""
    calls = []
    methods = {}
    for name in names:
        blocking, awaitable = recording(calls, name)
        if "blocking" in forms:
            methods[name] = blocking
        if "awaitable" in forms:
            methods[awaitable_twin(name)] = awaitable
    kind = type(f"Recording_{'_'.join(forms)}", (SessionStore,), methods)
    kind.calls = calls
    return kind


def recording(calls, name):
    """Return the two forms of a method that records its arguments and calls the engine's."""
    twin = awaitable_twin(name)

    def blocking(self, *args, **kwargs):
        calls.append((name, args, kwargs))
        return getattr(SessionStore, name)(self, *args, **kwargs)

    async def awaitable(self, *args, **kwargs):
        calls.append((name, args, kwargs))
        return await getattr(SessionStore, twin)(self, *args, **kwargs)

    return blocking, awaitable


def call(name, *args, **kwargs):
    return name, args, kwargs


def test_the_first_use_of_the_data_calls_load(do, stored, overriding):
    for kind in overriding("load"):
        store = kind(stored(a=1).session_key)

        assert do(store, "_get_session") == {"a": 1}

        do(store, "_get_session")
        assert kind.calls == [call("load")]


def test_a_store_without_a_key_does_not_call_load(do, overriding):
    for kind in overriding("load"):
        assert do(kind(), "_get_session") == {}

        assert kind.calls == []


@pytest.mark.parametrize("verb", ["save", "mutate", "cycle_key"])
def test_a_new_session_calls_create(do, overriding, verb):
    for kind in overriding("create"):
        store = kind()
        store["a"] = 1

        do(store, verb, *([lambda data: data.update(b=2)] if verb == "mutate" else []))

        assert kind.calls == [call("create")]
        assert loaded(do, store) == {"a": 1, **({"b": 2} if verb == "mutate" else {})}
        assert store.modified


@pytest.mark.parametrize("verb", ["create", "mutate", "cycle_key"])
def test_create_calls_save(do, overriding, verb):
    for kind in overriding("save"):
        store = kind()
        store["a"] = 1

        do(store, verb, *([lambda data: data.update(b=2)] if verb == "mutate" else []))

        assert kind.calls == [call("save", must_create=True)]
        assert loaded(do, store) == {"a": 1, **({"b": 2} if verb == "mutate" else {})}
        assert store.modified


def test_a_save_calls_create_and_that_calls_save(do, overriding):
    for kind in overriding("save", "create"):
        store = kind()
        store["a"] = 1

        do(store, "save")

        names = [name for name, *_ in kind.calls]
        assert names == ["save", "create", "save"]
        assert kind.calls[-1] == call("save", must_create=True)


@pytest.mark.parametrize("names", [("create",), ("save",), ("delete",), ("create", "delete")])
def test_cycle_key_calls_create_and_delete(do, stored, overriding, names):
    for kind in overriding(*names):
        store = kind(stored(a=1).session_key)
        old = store.session_key

        do(store, "cycle_key")

        calls = {"create": call("create"), "save": call("save", must_create=True)}
        calls["delete"] = call("delete", old)
        assert kind.calls == [calls[name] for name in names]
        assert store.session_key != old
        assert store.modified
        assert loaded(do, store) == {"a": 1}
        assert loaded(do, SessionStore(old)) == {}
        assert count_sessions() == 1


def test_flush_calls_delete(do, stored, overriding):
    for kind in overriding("delete"):
        store = kind(stored(a=1).session_key)

        do(store, "flush")

        assert kind.calls == [call("delete")]
        assert store.session_key is None
        assert count_sessions() == 0


def test_a_new_key_calls_exists(do, overriding):
    for kind in overriding("exists"):
        store = kind()

        do(store, "create")

        assert kind.calls == [call("exists", store.session_key)]


def test_what_says_that_a_key_exists_gets_another(do, engine):
    class Blocking(SessionStore):
        asked = 0

        def exists(self, session_key):
            self.asked += 1
            return self.asked < 3

    store = Blocking()

    do(store, "create")

    assert store.asked == 3
    assert count_sessions() == 1


@pytest.mark.parametrize("verb", ["save", "create"])
def test_a_write_calls_get_expiry_date_without_arguments(do, overriding, verb):
    for kind in overriding("get_expiry_date"):
        do(kind(), verb)

        assert kind.calls == [call("get_expiry_date")]


class Short(SessionStore):
    def get_expiry_date(self):
        return datetime.now(timezone.utc) + timedelta(seconds=60)


class Aged(SessionStore):
    def get_expiry_age(self):
        return 60


@pytest.mark.parametrize("kind", [Short, Aged])
def test_an_expiry_without_arguments_is_the_sessions(do, engine, kind):
    store = kind()
    store["a"] = 1

    do(store, "save")
    store["a"] = 2
    do(store, "save")

    left = the_document()["expires_at"] - dates.utc_now()
    assert timedelta(seconds=50) < left <= timedelta(seconds=61)


def test_a_touch_calls_get_expiry_date(do, stored, overriding):
    for kind in overriding("get_expiry_date"):
        store = kind(stored(a=1).session_key)
        do(store, "_get_session")

        do(store, "_touch")

        assert kind.calls == [call("get_expiry_date")]


def test_an_expiry_of_a_subclass_is_not_later_than_absolute_age(do, engine, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ABSOLUTE_AGE": 30}

    do(Short(), "save")

    assert the_document()["expires_at"] - the_document()["created_at"] == timedelta(seconds=30)


def test_a_subclass_may_make_its_own_keys(do, overriding):
    for kind in overriding("_get_new_session_key"):
        do(kind(), "create")

        assert kind.calls == [call("_get_new_session_key")]


# What a load() of a subclass returns


class Tenant(SessionStore):
    """Refuses the session of another tenant."""

    def load(self):
        data = super().load()
        return data if data.get("tenant") == "acme" else {}


def test_a_session_that_is_refused_is_empty(do, stored):
    store = Tenant(stored(tenant="evil", role="admin").session_key)

    assert do(store, "_get_session") == {}


def test_a_session_that_was_refused_is_replaced(do, stored):
    store = Tenant(stored(tenant="evil", role="admin").session_key)
    do(store, "_get_session")
    store["tenant"] = "acme"

    do(store, "save")

    assert loaded(do, store) == {"tenant": "acme"}


class Extended(SessionStore):
    """Returns another dict than was loaded."""

    def load(self):
        return {**super().load(), "more": 1}


def test_what_is_loaded_and_changed_is_merged(do, stored):
    store = Extended(stored(a=1).session_key)
    assert do(store, "_get_session") == {"a": 1, "more": 1}
    other = SessionStore(store.session_key)
    do(other, "_get_session")
    other["b"] = 2
    do(other, "save")

    do(store, "save")

    assert loaded(do, store) == {"a": 1, "b": 2, "more": 1}


class Elsewhere(SessionStore):
    """Loads from another place."""

    def load(self):
        return {"a": 1}


def test_what_was_loaded_from_another_place_replaces_what_is_stored(do, stored):
    store = Elsewhere(stored(b=2).session_key)
    do(store, "_get_session")

    do(store, "save")

    assert loaded(do, store) == {"a": 1}


@pytest.mark.parametrize("kind", [Tenant, Extended])
def test_an_unknown_key_is_dropped(do, engine, kind):
    store = kind("0123456789abcdefghijklmnopqrstuv")

    do(store, "_get_session")

    assert store.session_key is None


# Moving


class Audited(SessionStore):
    """Another request stores something while the session moves."""

    def create(self):
        super().create()
        other = SessionStore(self.former)
        other["other"] = 1
        other.save()


def test_what_another_request_stores_during_a_move_moves_along(do, stored):
    store = Audited(stored(a=1).session_key)
    store.former = store.session_key

    do(store, "cycle_key")

    assert loaded(do, store) == {"a": 1, "other": 1}
    assert count_sessions() == 1


class SignedOut(SessionStore):
    """Another request signs out while the session moves."""

    def create(self):
        super().create()
        SessionStore(self.former).flush()


def test_a_session_that_is_signed_out_during_a_move_does_not_come_back(do, stored):
    store = SignedOut(stored(**{SESSION_KEY: "7"}).session_key)
    store.former = store.session_key

    with pytest.raises(UpdateError):
        do(store, "cycle_key")

    assert count_sessions() == 0


class Keeping(SessionStore):
    """Keeps what is deleted."""

    def delete(self, session_key=None):
        pass


def test_a_session_that_a_subclass_keeps_stays(do, stored):
    store = Keeping(stored(a=1).session_key)
    old = store.session_key

    do(store, "cycle_key")
    store["b"] = 2
    do(store, "save")

    assert loaded(do, SessionStore(old)) == {"a": 1}
    assert loaded(do, store) == {"a": 1, "b": 2}


class Idle(SessionStore):
    """Creates nothing."""

    def create(self):
        pass


def test_a_move_that_creates_nothing_deletes_nothing(do, stored):
    store = Idle(stored(a=1).session_key)
    old = store.session_key

    do(store, "cycle_key")

    assert store.session_key == old
    assert loaded(do, store) == {"a": 1}


class Failing(SessionStore):
    """Its first writes fail."""

    def delete(self, session_key=None):
        raise ZeroDivisionError


def test_a_move_that_could_not_delete_is_finished_by_the_next_write(do, stored):
    store = Failing(stored(a=1).session_key)
    old = store.session_key
    with pytest.raises(ZeroDivisionError):
        do(store, "cycle_key")
    assert store.session_key != old
    store["b"] = 2

    do(store, "save")

    assert loaded(do, SessionStore(old)) == {}
    assert loaded(do, store) == {"a": 1, "b": 2}
    assert count_sessions() == 1


def test_a_session_that_moves_keeps_its_beginning(do, stored):
    class Saving(SessionStore):
        def save(self, must_create=False):
            super().save(must_create)

    store = Saving(stored(a=1).session_key)
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)
    do(store, "_get_session")
    store._known.snapshot = store._known.snapshot._replace(created_at=began)

    do(store, "cycle_key")

    assert the_document()["created_at"] == began


def test_a_former_key_may_be_deleted_again(do, stored):
    store = stored(a=1)
    old = store.session_key
    do(store, "cycle_key")

    do(store, "delete", old)

    assert loaded(do, store) == {"a": 1}


def test_the_key_before_a_create_is_deleted_by_its_name(do, stored):
    store = stored(a=1)
    old = store.session_key
    do(store, "create")

    do(store, "delete", old)

    assert loaded(do, SessionStore(old)) == {}
    assert loaded(do, store) == {"a": 1}


# Errors


def test_a_save_that_fails_leaves_the_key_as_it_was(do, engine):
    class Refusing(SessionStore):
        def save(self, must_create=False):
            raise ZeroDivisionError

    store = Refusing()
    store["a"] = 1

    with pytest.raises(ZeroDivisionError):
        do(store, "create")

    assert store.session_key is None


def test_a_key_that_is_taken_is_followed_by_another(do, engine):
    class Unlucky(SessionStore):
        attempts = 0

        def save(self, must_create=False):
            self.attempts += 1
            if self.attempts < 3:
                raise CreateError
            super().save(must_create)

    store = Unlucky()

    do(store, "create")

    assert store.attempts == 3
    assert collection().find_one(SESSIONS)["_id"] == documents.document_id(store.session_key)


def test_keys_that_are_always_taken_end_in_an_error(do, engine):
    class Stuck(SessionStore):
        def save(self, must_create=False):
            raise CreateError("as it says")

    with pytest.raises(CreateError, match="as it says"):
        do(Stuck(), "create")


def test_a_key_of_another_form_says_why(do, engine):
    class Odd(SessionStore):
        def _get_new_session_key(self):
            return "secret-" + "a" * 12

    with pytest.raises(CreateError, match="32 to 128 characters .* One of 19 characters") as raised:
        do(Odd(), "create")

    assert "secret" not in str(raised.value)


# Threads


def test_a_blocking_method_is_called_in_a_thread_under_asgi(mongod_engine):
    threads = []

    class Blocking(SessionStore):
        def delete(self, session_key=None):
            threads.append(threading.current_thread())
            super().delete(session_key)

    async def sign_out():
        await Blocking("0123456789abcdefghijklmnopqrstuv").aflush()
        await Blocking("0123456789abcdefghijklmnopqrstuv").adelete()

    asyncio.run(sign_out())

    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_a_blocking_method_may_call_its_twin(do, engine):
    class Circular(SessionStore):
        def save(self, must_create=False):
            async_to_sync(super().asave)(must_create)

    async def save(store):
        await store.asave()

    store = Circular()
    store["a"] = 1
    asyncio.run(save(store))

    assert loaded(do, store) == {"a": 1}


def test_an_object_may_override_a_method_too(do, stored):
    store = SessionStore(stored(a=1).session_key)
    store.load = lambda: {"other": 1}

    assert do(store, "_get_session") == {"other": 1}

    store = SessionStore(store.session_key)
    store.aload = SessionStore(store.session_key).aload
    assert do(store, "_get_session") == {"a": 1}


def test_each_override_is_called_once(mongod_engine):
    calls = []

    class Blocking(SessionStore):
        def load(self):
            calls.append("load")
            return super().load()

    class Awaitable(Blocking):
        async def aload(self):
            calls.append("aload")
            return await super().aload()

    class Last(Awaitable):
        def load(self):
            calls.append("last")
            return super().load()

    for kind, expected in ((Awaitable, ["aload"]), (Last, ["aload", "last", "load"])):
        calls.clear()
        asyncio.run(kind("0123456789abcdefghijklmnopqrstuv")._aget_session())
        assert calls == expected


def test_the_ordinary_store_overrides_nothing():
    store = SessionStore()

    assert not any(map(store._overrides, _NAMES))


# What is refused


@pytest.mark.parametrize("name", _REFUSED)
def test_what_the_engine_does_not_call_is_refused(name):
    with pytest.raises(TypeError, match=rf"Wrong overrides {name}\(\)\. The engine .*\."):
        type("Wrong", (SessionStore,), {name: lambda self: None})


def test_a_mixin_is_refused_too():
    class Encrypting:
        def encode(self, session_dict):
            return ""

    with pytest.raises(TypeError, match="SESSION_SERIALIZER"):

        class Wrong(Encrypting, SessionStore):
            pass
