"""Whatever any number of clients do to one session, in whatever order: a model knows the outcome.

The model is the promise in plain Python: of each key, what the client that saves has done to it
since it loaded counts; else what is stored counts.
"""

import os
from contextlib import contextmanager

import pytest
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from django_mongo_sessions import attempts, documents, drivers, state
from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import collection

CLIENTS = st.integers(0, 2)
KEYS = st.sampled_from(["a", "b", "_auth_user_id"])
VALUES = st.sampled_from([0, 1, True, "1", [1], [1, 2]])
# The matrix of tox repeats these tests many times.
EXAMPLES = 15 if "TOX_ENV_NAME" in os.environ else 60
AGE = 14 * 24 * 60 * 60  # Django's SESSION_COOKIE_AGE, in seconds


class Client:
    """A session store, and what the model expects of it."""

    def __init__(self, store, stored):
        self.store = store
        self.base = None if stored is None else dict(stored)
        self.live = dict(stored or {})
        self.key = None if stored is None else store.session_key
        self.replaces = False

    def merged(self, stored):
        """What a save makes of what is stored."""
        if self.replaces:
            return dict(self.live)
        merged = dict(stored)
        for key in {*self.base, *self.live}:
            if not same(self.base, self.live, key):
                merged.pop(key, None)
                if key in self.live:
                    merged[key] = self.live[key]
        return merged


def same(one, other, key):
    absent = object()
    return repr(one.get(key, absent)) == repr(other.get(key, absent))


def count(data):
    data["count"] = data.get("count", 0) + 1
    return data["count"]


class Sessions(RuleBasedStateMachine):
    """Clients of one browser, and what MongoDB should hold after each of their steps."""

    def __init__(self, do):
        super().__init__()
        self.do = do
        collection().delete_many({})
        self.stored = {}  # session data by key
        self.clients = [Client(SessionStore(), None) for _ in range(3)]
        self.last_key = "0" * 32

    @contextmanager
    def gone(self, expected):
        """Expect an UpdateError, or none."""
        if expected:
            with pytest.raises(UpdateError):
                yield
        else:
            yield

    @rule(n=CLIENTS)
    def load(self, n):
        store = SessionStore(self.last_key)
        self.do(store, "_get_session")
        self.clients[n] = Client(store, self.stored.get(self.last_key))

    @rule(n=CLIENTS, key=KEYS, value=VALUES)
    def set(self, n, key, value):
        client = self.clients[n]
        client.store[key] = value if not isinstance(value, list) else list(value)
        client.live[key] = value

    @rule(n=CLIENTS, key=KEYS)
    def append(self, n, key):
        client = self.clients[n]
        if isinstance(client.live.get(key), list):
            client.store[key].append(9)
            client.live[key] = [*client.live[key], 9]

    @rule(n=CLIENTS, key=KEYS)
    def delete(self, n, key):
        client = self.clients[n]
        client.store.pop(key, None)
        client.live.pop(key, None)

    @rule(n=CLIENTS)
    def clear(self, n):
        client = self.clients[n]
        client.store.clear()
        client.live, client.replaces = {}, True

    @rule(n=CLIENTS, seconds=st.sampled_from([60, 3600, None]))
    def set_expiry(self, n, seconds):
        client = self.clients[n]
        client.store.set_expiry(seconds)
        if seconds is None:
            client.live.pop("_session_expiry", None)
        else:
            client.live["_session_expiry"] = seconds

    @rule(n=CLIENTS)
    def save(self, n):
        client = self.clients[n]
        with self.gone(client.key is not None and client.key not in self.stored):
            self.do(client.store, "save")
        self.saved(client)

    def saved(self, client):
        if client.key is None:
            self.holds(client, client.store.session_key, client.live)
        elif client.key in self.stored:
            self.holds(client, client.key, client.merged(self.stored[client.key]))

    def holds(self, client, key, data):
        """The session is stored under the key, and the client knows it as it is stored."""
        client.key = self.last_key = key
        self.stored[key] = dict(data)
        client.live, client.base, client.replaces = dict(data), dict(data), False

    @rule(n=CLIENTS, other=CLIENTS, key=KEYS, value=VALUES, times=st.integers(1, 2))
    def save_while_another_saves(self, n, other, key, value, times):
        """Before each thing that a save asks of the server, another client saves."""
        client = self.clients[n]
        if other == n or client.key is None:
            return
        verb = client.store._saving()
        answer = None
        with self.gone(client.key not in self.stored):
            try:
                while True:
                    operation = verb.send(answer)
                    answer = None
                    if not isinstance(operation, drivers.Wait):
                        if times:
                            times -= 1
                            self.set(other, key, value)
                            self.save(other)
                        answer = operation.read(operation.call(collection()))
            except StopIteration:
                pass
        self.saved(client)

    @rule(n=CLIENTS)
    def mutate(self, n):
        client = self.clients[n]
        gone = client.key is not None and client.key not in self.stored
        with self.gone(gone):
            result = self.do(client.store, "mutate", count)
        if gone:
            return
        data = client.live if client.key is None else client.merged(self.stored[client.key])
        data = dict(data)
        assert result == count(data)
        self.holds(client, client.store.session_key, data)

    @rule(n=CLIENTS)
    def cycle(self, n):
        client = self.clients[n]
        old = client.key
        is_gone = old is not None and old not in self.stored
        refused = is_gone and "_auth_user_id" in client.live
        with self.gone(refused):
            self.do(client.store, "cycle_key")
        if refused:
            return
        data = client.live
        if old in self.stored:
            data = client.merged(self.stored.pop(old))
        assert client.store.session_key != old
        self.holds(client, client.store.session_key, data)

    @rule(n=CLIENTS)
    def flush(self, n):
        client = self.clients[n]
        self.do(client.store, "flush")
        self.stored.pop(client.key, None)
        self.clients[n] = Client(client.store, None)

    @invariant()
    def mongodb_holds_what_the_model_says(self):
        held = {bytes(document["_id"]): document for document in collection().find({})}
        assert held.keys() == {documents.stored_id(key) for key in self.stored}
        for key, data in self.stored.items():
            assert repr(sorted(SessionStore(key).load().items())) == repr(sorted(data.items()))
            document = held[documents.stored_id(key)]
            age = (document["expires_at"] - document["seen_at"]).total_seconds()
            assert age == data.get("_session_expiry", AGE)
            assert document.get("user_id") == (
                str(data["_auth_user_id"]) if "_auth_user_id" in data else None
            )

    @invariant()
    def every_client_shows_what_the_model_says(self):
        for client in self.clients:
            live = client.store._get_session()
            assert repr(sorted(live.items())) == repr(sorted(client.live.items()))


def test_no_update_is_lost_in_any_interleaving(do, monkeypatch):
    monkeypatch.setattr(state, "WRITE_INTERVAL", 0)  # or a save that changes nothing asks nothing
    monkeypatch.setattr(attempts, "_LONGEST_WAIT", 0)

    run_state_machine_as_test(
        lambda: Sessions(do),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
