"""Whatever any number of clients do to one session, in whatever order: a model knows the outcome.

The model is the promise in plain Python: of each key, what the client that saves has done to it
since it loaded counts; else what is stored counts.
"""

import itertools
import os

import pytest
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from django_mongo_sessions import attempts, documents, drivers, state
from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import collection

CLIENTS = st.integers(0, 2)
KEYS = st.sampled_from(["a", "b", "_auth_user_id"])
VALUES = st.sampled_from([0, 1, True, "1", [1], [1, 2]])
VERBS = {"save": "_saving", "mutate": "_mutating", "cycle_key": "_cycling", "flush": "_flushing"}
OTHER_VERBS = [*["save"] * 4, *["mutate"] * 4, "cycle_key", "flush", "delete"]
AGE = 14 * 24 * 60 * 60  # Django's SESSION_COOKIE_AGE, in seconds


class Client:
    """A session store, and what the model expects of it."""

    def __init__(self, store, stored):
        self.store = store
        self.base = None if stored is None else dict(stored)
        self.live = dict(stored or {})
        self.key = None if stored is None else store.session_key
        self.replaces = False
        self.seen = []  # what was stored when it asked

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


def equal(one, other):
    return repr(sorted(one.items())) == repr(sorted(other.items()))


def count(data):
    data["count"] = data.get("count", 0) + 1
    return data["count"]


def step_by_step(verb, meddle):
    """Do something else before each thing that a verb asks of the server."""
    step, argument = verb.send, None
    while True:
        try:
            operation = step(argument)
        except StopIteration as stop:
            return stop.value
        if not isinstance(operation, drivers.Wait):
            meddle()
        step, argument = verb.send, (yield operation)


CHANGES = st.tuples(CLIENTS, KEYS, VALUES)
# What others do meanwhile, before each of the first things that a verb asks of the server.
MEDDLING = st.lists(
    st.none() | st.tuples(st.integers(1, 2), st.sampled_from(OTHER_VERBS), KEYS, VALUES),
    min_size=5,
    max_size=5,
)


class Sessions(RuleBasedStateMachine):
    """Clients of one browser, and what MongoDB should hold after each of their steps."""

    def __init__(self, do):
        super().__init__()
        self.do = do
        collection().delete_many({})
        self.stored = {}  # session data by key
        first = SessionStore()
        do(first, "create")
        self.stored[first.session_key] = {}
        self.last_key = first.session_key
        self.blocking = False
        self.clients = [None] * 3
        for n in range(3):
            self.load(n)

    def ask(self, client, verb, *args):
        """Call a verb; answer what it returned, and whether the session was gone."""
        try:
            if self.blocking:
                return getattr(client.store, verb)(*args), False
            return self.do(client.store, verb, *args), False
        except UpdateError:
            return None, True

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
    def pop(self, n, key):
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

    @rule(n=CLIENTS, verb=st.sampled_from(list(VERBS)))
    def verb(self, n, verb):
        getattr(self, verb)(self.clients[n], self.ask)

    @rule(n=CLIENTS, verb=st.sampled_from(list(VERBS)), meddling=MEDDLING)
    def verb_while_others_meddle(self, n, verb, meddling):
        client, meddling = self.clients[n], list(meddling)

        def ask(client, verb, *args):
            name = VERBS[verb]
            asked = getattr(client.store, name)

            def meddle():
                self.meddle(n, meddling.pop(0) if meddling else None)
                if client.key in self.stored:
                    client.seen.append(self.stored[client.key])

            def meddled(function):
                return lambda data: (meddle(), function(data))[1]

            setattr(client.store, name, lambda *args: step_by_step(asked(*args), meddle))
            try:
                return self.ask(client, verb, *map(meddled, args))
            finally:
                delattr(client.store, name)

        getattr(self, verb)(client, ask)

    def meddle(self, n, what):
        """Let another client do something. With blocking calls, since a loop may be running."""
        if what is None:
            return
        further, verb, key, value = what
        other = (n + further) % 3
        self.blocking, before = True, self.blocking
        if verb == "save":
            self.set(other, key, value)
        getattr(self, verb)(self.clients[other], self.ask)
        self.blocking = before

    def save(self, client, ask):
        _, gone = ask(client, "save")
        if client.key is None:
            self.holds(client, client.store.session_key, client.live)
        elif client.key in self.stored:
            self.holds(client, client.key, client.merged(self.stored[client.key]))
        else:
            assert gone
            return
        assert not gone

    def mutate(self, client, ask):
        result, gone = ask(client, "mutate", count)
        assert gone == (client.key is not None and client.key not in self.stored)
        if not gone:
            data = client.live if client.key is None else client.merged(self.stored[client.key])
            data = dict(data)
            assert result == count(data)
            self.holds(client, client.store.session_key, data)

    def cycle_key(self, client, ask):
        client.seen, old = [], client.key
        _, gone = ask(client, "cycle_key")
        if old is None or old in self.stored:
            data = client.live if old is None else client.merged(self.stored.pop(old))
            assert not gone
        else:
            # What it was when it was last seen moves, if nobody is signed in.
            may_move = [client.live, *map(client.merged, client.seen)]
            if gone:
                assert any("_auth_user_id" in data for data in may_move)
                return
            live = client.store._get_session()
            data = next(data for data in may_move if equal(data, live))
            assert "_auth_user_id" not in data
        assert client.store.session_key != old
        self.holds(client, client.store.session_key, data)

    def flush(self, client, ask):
        ask(client, "flush")
        self.stored.pop(client.key, None)
        client.__init__(client.store, None)

    def delete(self, client, ask):
        ask(client, "delete")
        self.stored.pop(client.key, None)

    def holds(self, client, key, data):
        """The session is stored under the key, and the client knows it as it is stored."""
        client.key = self.last_key = key
        self.stored[key] = dict(data)
        client.live, client.base, client.replaces = dict(data), dict(data), False

    def check(self):
        self.mongodb_holds_what_the_model_says()
        self.every_client_shows_what_the_model_says()

    @invariant()
    def mongodb_holds_what_the_model_says(self):
        held = {bytes(document["_id"]): document for document in collection().find({})}
        assert held.keys() == {documents.stored_id(key) for key in self.stored}
        for key, data in self.stored.items():
            assert equal(SessionStore(key).load(), data)
            document = held[documents.stored_id(key)]
            age = (document["expires_at"] - document["seen_at"]).total_seconds()
            assert age == data.get("_session_expiry", AGE)
            assert document.get("user_id") == (
                str(data["_auth_user_id"]) if "_auth_user_id" in data else None
            )

    @invariant()
    def every_client_shows_what_the_model_says(self):
        for client in self.clients:
            assert equal(client.store._get_session(), client.live)


@pytest.fixture
def impatient(monkeypatch):
    """Do not wait, and let a save that changes nothing ask all the same."""
    monkeypatch.setattr(state, "WRITE_INTERVAL", 0)
    monkeypatch.setattr(attempts, "_LONGEST_WAIT", 0)


def options(examples, **given):
    # The matrix of tox repeats these tests many times.
    if "TOX_ENV_NAME" in os.environ:
        examples //= 4
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), **given
    )


def test_no_update_is_lost_in_any_interleaving(do, impatient):
    run_state_machine_as_test(lambda: Sessions(do), settings=options(50, stateful_step_count=30))


def test_no_update_is_lost_while_others_meddle(do, impatient):
    @options(250)
    @given(st.lists(CHANGES, max_size=3), st.sampled_from(list(VERBS)), MEDDLING)
    def check(changes, verb, meddling):
        sessions = Sessions(do)
        for change in changes:
            sessions.set(*change)
        sessions.verb_while_others_meddle(0, verb, meddling)
        sessions.check()
        for n in range(3):
            sessions.verb(n, "save")
        sessions.check()

    check()


class Task:
    """A task of a request. What it asks of the server and the answer are steps of their own."""

    def __init__(self, store):
        self.store = store
        self.verb = None

    def start(self, verb, done):
        self.verb, self.done = verb, done
        self.hand(None)

    def step(self):
        if self.operation is None:
            self.hand(self.answer)
        else:
            if isinstance(self.operation, drivers.Wait):
                self.answer = None
            else:
                self.answer = self.operation.read(self.operation.call(collection()))
            self.operation = None

    def hand(self, answer):
        try:
            self.operation = self.verb.send(answer)
        except StopIteration:
            self.verb = None
            self.done()


class Tasks:
    """Two tasks that share a store, and another request. What was acknowledged is there."""

    def __init__(self, engine):
        collection().delete_many({})
        store = SessionStore()
        store["_auth_user_id"] = "1"
        store.save()
        self.shared = store
        self.tasks = [Task(store), Task(store), None]
        self.load_other()
        self.names = map(str, itertools.count())
        self.present, self.absent, self.mutations, self.maybe = set(), set(), 0, 0

    def load_other(self):
        self.tasks[2] = Task(SessionStore(self.shared.session_key))
        self.tasks[2].store._get_session()

    def go_on(self, task, what):
        if task.verb is not None:
            task.step()
        elif what == "set":
            name = next(self.names)
            task.store[name] = 1
            task.start(task.store._saving(), lambda: self.present.add(name))
        elif what == "pop":
            names = self.present & task.store._get_session().keys()
            if task.store is self.shared and names:
                name = min(names)
                self.present.remove(name)
                del task.store[name]
                task.start(task.store._saving(), lambda: self.absent.add(name))
        elif what == "mutate":
            self.maybe += 1
            task.start(task.store._mutating(count), self.mutated)
        elif what == "cycle_key" and task.store is self.shared:
            task.start(task.store._cycling(), lambda: None)

    def mutated(self):
        self.mutations += 1

    def step(self, n, what):
        if self.tasks[n].store.session_key is None:  # it came while the session moved
            self.load_other()
            return
        try:
            self.go_on(self.tasks[n], what)
        except UpdateError:
            assert n == 2, "only the other request may find the session gone, where it has moved"
            self.load_other()

    def finish(self):
        while any(task.verb for task in self.tasks):
            for n in range(3):
                self.step(n, None)

    def check(self):
        """What is stored is what was acknowledged, and what the store shows."""
        held = SessionStore(self.shared.session_key).load()
        assert collection().count_documents({}) == 1
        assert self.present <= held.keys()
        assert not self.absent & held.keys()
        assert self.mutations <= held.get("count", 0) <= self.maybe
        return held


@pytest.mark.parametrize("seconds", [0, 1])
def test_what_was_acknowledged_is_there_where_tasks_share_a_store(engine, monkeypatch, seconds):
    monkeypatch.setattr(state, "WRITE_INTERVAL", seconds)
    steps = st.tuples(
        st.integers(0, 2), st.sampled_from(["set", "set", "pop", "mutate", "mutate", "cycle_key"])
    )

    @options(100)
    @given(st.lists(steps, min_size=30, max_size=60))
    def check(steps):
        tasks = Tasks(engine)
        for step in steps:
            tasks.step(*step)
        tasks.finish()
        tasks.check()
        tasks.shared["last"] = 1
        tasks.shared.save()
        assert equal(tasks.check(), tasks.shared._get_session())

    check()
