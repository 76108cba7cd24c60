"""Signed out means never again: two engines, requests that overlap and crash at any step.

Requests adopt the sessions of an old engine, save them, sign in again and sign out. They are run
one command at a time, in any order. Between any two commands one may crash, before its command is
applied or after it, or may lose the reply. The old engine fails and recovers, keeps its sessions or
not, and what was deleted there may come back. Whatever happens:

- No request that begins after a sign-out gets that session again, by any key that it has had.
- A session that nobody has signed out is still there, with its data.
"""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import Phase
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from pymongo.errors import AutoReconnect, PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import (
    adopting,
    deleting,
    loading,
    moving,
    predecessors,
    saving,
    signed_in,
)
from django_mongo_sessions.exceptions import PredecessorUnavailable
from django_mongo_sessions.mongo.runner import Elsewhere, Operation
from django_mongo_sessions.storage import dates, documents
from tests.conftest import IS_LONG, collection
from tests.engine import old

pytestmark = pytest.mark.untraced

REQUESTS = st.integers(0, 2)
WHO = st.integers(0, 1)
VERBS = ["load", "save", "sign in", "sign out", "sign out unread", "delete", "revoke"]
ENDS = {"sign out", "sign out unread", "delete", "revoke"}
DAY = timedelta(days=1)


def visit(store, verb, key, who):
    """Do what a request does; return whose session it has had."""
    if verb == "revoke":
        yield from signed_in.revoke(str(who), lambda found: True, "all")
        return None
    if verb == "delete":
        yield from deleting.delete(SessionStore(), key)
        return None
    if verb == "sign out unread":
        yield from deleting.flush(store)
        return None
    data = yield from loading.data(store)
    had = data.get("who")
    if had is None:
        return None
    if verb == "save":
        data["visits"] = data.get("visits", 0) + 1
        yield from saving.save(store)
    if verb == "sign in":
        yield from moving.cycle_key(store)
    if verb == "sign out":
        yield from deleting.flush(store)
    return had


class Request:
    """A request under way: what it does, and the step that is due."""

    def __init__(self, who, verb, key, was_out):
        self.who, self.verb, self.was_out = who, verb, was_out
        self.store = SessionStore(key)
        self.steps = visit(self.store, verb, key, who)
        self.due = None

    def go_on(self, loses_reply=False):
        """Make the call that is due, and go on to the next one."""
        predecessors.current().gate.outage = None  # each may try
        if self.due is None:
            self.due = self.steps.send(None)
            return
        try:
            reply = self.call()
            if loses_reply and isinstance(self.due, Operation):
                raise AutoReconnect("lost")
        except Exception as error:
            self.due = self.steps.throw(error)
        else:
            self.due = self.steps.send(reply)

    def call(self):
        if isinstance(self.due, Elsewhere):
            return self.due.call()
        if isinstance(self.due, Operation):
            return self.due.read(self.due.call(collection()))
        return None  # a signal, or a pause


class TwoEngines(RuleBasedStateMachine):
    def __init__(self, settings):
        super().__init__()
        self.settings = settings
        self.keep_sessions_there(False)
        collection().delete_many({})
        old.WORLD.__init__()
        CLOCK.offset = timedelta()
        self.requests = [None] * 3
        self.keys = {who: [f"{who}{'key' * 11}"] for who in (0, 1)}  # the last one is the browser's
        self.out, self.doubtful = set(), set()
        for who in self.keys:
            self.put(who)

    def put(self, who):
        data = {"who": who, SESSION_KEY: str(who)}
        old.WORLD.put(self.keys[who][0], seconds=10 * 86_400, **data)

    @rule(n=REQUESTS, who=WHO, verb=st.sampled_from(VERBS))
    def begin(self, n, who, verb):
        if self.requests[n] is None:
            if verb == "revoke" and not self.is_here(who):
                return  # sessions that are still in the old engine are not known to be a user's
            key = self.keys[who][-1]
            self.requests[n] = Request(who, verb, key, who in self.out)
            if verb in ENDS:
                self.doubtful.add(who)
            self.go_on(n)

    def is_here(self, who):
        wanted = {"user_id": str(who), "expires_at": {"$gt": dates.utc_now()}}
        return collection().count_documents(wanted) > 0

    @rule(n=REQUESTS)
    def lose_a_reply(self, n):
        if self.requests[n] is not None:
            if self.requests[n].verb == "sign in":
                self.doubtful.add(self.requests[n].who)
            self.go_on(n, loses_reply=True)

    @rule(n=REQUESTS, steps=st.integers(1, 6))
    def go_on(self, n, steps=1, loses_reply=False):
        for _ in range(steps):
            request = self.requests[n]
            if request is None:
                return
            try:
                request.go_on(loses_reply)
            except StopIteration as end:
                self.ended(n, end.value)
            except (UpdateError, PyMongoError):
                self.requests[n] = None

    def ended(self, n, had):
        request, self.requests[n] = self.requests[n], None
        assert had is None or not request.was_out, "a session has come back"
        if request.verb in ("sign out unread", "delete", "revoke") or (
            request.verb == "sign out" and had is not None
        ):
            self.out.add(request.who)
        if request.verb == "sign in" and had is not None:
            self.keys[request.who].append(request.store.session_key)

    @rule(n=REQUESTS, is_applied=st.booleans())
    def crash(self, n, is_applied):
        request, self.requests[n] = self.requests[n], None
        if request is not None:
            if request.verb == "sign in":  # the browser may not know its new key
                self.doubtful.add(request.who)
            if is_applied:
                with suppress(Exception):  # nobody learns of it
                    request.call()
            request.steps.close()

    @rule(fails=st.booleans())
    def let_the_old_engine_fail(self, fails):
        old.WORLD.error = OSError() if fails else None

    @rule(keeps=st.booleans())
    def keep_sessions_there(self, keeps):
        self.settings.MONGO_SESSIONS["PREDECESSOR_KEEPS"] = keeps

    @rule(who=WHO)
    def let_a_deleted_one_come_back(self, who):
        self.put(who)

    @precondition(lambda self: not any(self.requests))
    @rule()
    def let_minutes_pass(self):
        """Longer than a request lasts, and a pointer."""
        CLOCK.offset += timedelta(minutes=2)
        collection().delete_many({"expires_at": {"$lte": dates.utc_now()}})

    @precondition(lambda self: not any(self.requests))
    @rule()
    def look(self):
        predecessors.current().gate.outage = None
        for who in self.out:
            for key in self.keys[who]:
                try:
                    assert "who" not in SessionStore(key).load(), "a session has come back"
                except PredecessorUnavailable:
                    predecessors.current().gate.outage = None
        for who in self.keys.keys() - self.out - self.doubtful:
            try:
                assert SessionStore(self.keys[who][-1]).load().get("who") == who
            except PredecessorUnavailable:
                predecessors.current().gate.outage = None

    def teardown(self):
        for n in range(len(self.requests)):
            self.go_on(n, 200)
        self.let_minutes_pass()
        old.WORLD.error = None
        for who in self.keys:
            self.put(who)
        self.look()


class Clock:
    offset = timedelta()


CLOCK = Clock()


@pytest.fixture
def two_engines(engine, settings, monkeypatch):
    real = dates.utc_now
    monkeypatch.setattr(dates, "utc_now", lambda: real() + CLOCK.offset)
    predecessors._engine.cache_clear()
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "PREDECESSOR": "tests.engine.old.rows",
        "PREDECESSOR_UNTIL": (real() + 9 * DAY).date(),
    }
    return settings


def test_signed_out_means_never_again(two_engines):
    run_state_machine_as_test(
        lambda: TwoEngines(two_engines),
        settings=profile(
            max_examples=1000 if IS_LONG else 60, stateful_step_count=60 if IS_LONG else 40
        ),
    )


def forget_the_tombstone(document_id):
    return documents.marker(document_id, documents.new_write_id(), dates.utc_now())


FAULTS = {
    "a sign-out leaves no tombstone": (adopting, "remove", lambda id: run_plain_delete(id)),
    "a tombstone lasts a minute": ("mapping", "tombstone", forget_the_tombstone),
    "a pointer lasts a minute": ("mapping", "_asked_until", lambda: None),
}


def run_plain_delete(document_id):
    from django_mongo_sessions.mongo import writes

    return (yield from writes.delete(document_id))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(two_engines, monkeypatch, fault):
    where, name, replacement = FAULTS[fault]
    if where == "mapping":
        where = "django_mongo_sessions.engine.mapping." + name
        monkeypatch.setattr(where, replacement)
    else:
        monkeypatch.setattr(where, name, replacement)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            lambda: TwoEngines(two_engines),
            settings=profile(max_examples=500, stateful_step_count=40, phases=[Phase.generate]),
        )
