"""Whatever any number of clients do to one session, in any order: a model predicts the outcome.

Each of their operations may go out with those of other sessions, of which any may fail.
The model is the promise in plain Python: for each key, what the saving client has done to it since
it loaded the session counts, and otherwise what is stored.
"""

from functools import partial

import pytest
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import runner, writes
from django_mongo_sessions.storage import documents
from tests.conftest import IS_LONG, SESSIONS, collection
from tests.promises.company import FATES

pytestmark = pytest.mark.untraced

CLIENTS = st.integers(0, 2)
KEYS = st.sampled_from(["a", "b", "_auth_user_id"])
VALUES = st.sampled_from([0, 1, True, "1", [1], [1, 2]])
VERBS = ["save", "mutate", "cycle_key", "flush"]
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
        """Return what a save stores in place of what is stored."""
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
    """Do something else before each command that a verb sends."""
    step, argument = verb.send, None
    while True:
        try:
            operation = step(argument)
        except StopIteration as stop:
            return stop.value
        if not isinstance(operation, runner.Wait):
            meddle()
        step, argument = verb.send, (yield operation)


CHANGES = st.tuples(CLIENTS, KEYS, VALUES)
# What other clients do in the meantime, before each of the first commands that a verb sends.
MEDDLING = st.lists(
    st.none() | st.tuples(st.integers(1, 2), st.sampled_from(OTHER_VERBS), KEYS, VALUES),
    min_size=5,
    max_size=5,
)


class Sessions(RuleBasedStateMachine):
    """Clients of one browser, and what MongoDB should hold after each of their steps."""

    def __init__(self, do, company):
        super().__init__()
        self.do, self.company = do, company
        collection().delete_many({})
        company.begin([])
        self.stored = {}  # session data by key
        self.moved = {}  # by old key: the new one, and the store that has moved the session
        first = SessionStore()
        do(first, "create")
        self.stored[first.session_key] = {}
        self.last_key = first.session_key
        self.blocking = False
        self.clients = [None] * 3
        for n in range(3):
            self.load(n)

    @initialize(fates=FATES)
    def meet_others(self, fates):
        self.company.begin(fates)

    def ask(self, client, verb, *args):
        """Call a verb; return its result, and whether the session was gone."""
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

    @rule(n=CLIENTS, verb=st.sampled_from(VERBS))
    def verb(self, n, verb):
        getattr(self, verb)(self.clients[n], self.ask)

    @rule(n=CLIENTS, verb=st.sampled_from(VERBS), meddling=MEDDLING)
    def verb_while_others_meddle(self, n, verb, meddling):
        client, meddling = self.clients[n], list(meddling)

        def ask(client, verb, *args):
            store, runs = client.store, ("_run", "_arun", "_write", "_awrite")
            ends = self.commands_that_end(client.key) if verb in ("delete", "flush") else iter(())

            def meddle():
                self.meddle(n, meddling.pop(0) if meddling else None)
                if client.key in self.stored:
                    client.seen.append(self.stored[client.key])
                next(ends, None)

            def meddled_run(run):
                return lambda steps: run(step_by_step(steps, meddle))

            def meddled(function):
                return lambda data: (meddle(), function(data))[1]

            for name in runs:
                setattr(store, name, meddled_run(getattr(store, name)))
            try:
                return self.ask(client, verb, *map(meddled, args))
            finally:
                for name in runs:
                    delattr(store, name)

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
            if old is not None:
                self.moved[old] = client.store.session_key, client.store
        else:
            # The session moves as it was last seen, if no user is signed in.
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
        if ask == self.ask:
            self.end(client.key)
        # The documents that it has left are deleted too.
        self.moved = {old: to for old, to in self.moved.items() if to[1] is not client.store}
        client.__init__(client.store, None)

    def delete(self, client, ask):
        ask(client, "delete")
        if ask == self.ask:
            self.end(client.key)

    def end(self, key):
        """Delete the session of a key, or follow it to where it has moved."""
        for _ in self.commands_that_end(key):
            pass

    def commands_that_end(self, key):
        """Do the same, command by command."""
        while key is not None:
            if self.stored.pop(key, None) is not None:
                return
            yield  # it was not there to be deleted
            key, _ = self.moved.get(key, (None, None))
            yield  # looked for where it has moved

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
        held = {bytes(document["_id"]): document for document in collection().find(SESSIONS)}
        assert held.keys() == {documents.document_id(key) for key in self.stored}
        for key, data in self.stored.items():
            assert equal(SessionStore(key).load(), data)
            document = held[documents.document_id(key)]
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
    """Do not wait, and let a save that changes nothing send its command."""
    monkeypatch.setattr("django_mongo_sessions.engine.session.WRITE_INTERVAL", 0)
    monkeypatch.setattr(writes, "_LONGEST_DELAY", 0)


def options(examples, **given):
    """Return the settings of a test to which the long profile gives that many examples."""
    return settings(max_examples=examples if IS_LONG else examples // 4, **given)


def test_no_update_is_lost_in_any_interleaving(do, impatient, company):
    machine = partial(Sessions, do, company)
    run_state_machine_as_test(machine, settings=options(50, stateful_step_count=30))


def test_no_update_is_lost_while_other_requests_write(do, impatient, company):
    @options(250)
    @given(st.lists(CHANGES, max_size=3), st.sampled_from(VERBS), MEDDLING, FATES)
    def check(changes, verb, meddling, fates):
        sessions = Sessions(do, company)
        sessions.meet_others(fates)
        for change in changes:
            sessions.set(*change)
        sessions.verb_while_others_meddle(0, verb, meddling)
        sessions.check()
        for n in range(3):
            sessions.verb(n, "save")
        sessions.check()

    check()
