"""Whatever the network, the servers and impatient callers do: acknowledged changes are stored once.

Tasks of one request, and other requests, use one session. Connections break before and after the
server has applied a write, writes arrive late and twice, primaries fail and lose what they have
not acknowledged, tasks are cancelled at any await, and all writes are made in one millisecond. What
each task got as a result is recorded, and compared with what is stored in the end.

Requests of several browsers share commands: their operations wait for each other in the queues of
the client, and what goes out together meets the same fate, or a part of it does.
"""

import asyncio
from datetime import datetime, timezone
from itertools import count

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.mongo import coalescing, indexes, writes
from django_mongo_sessions.storage import dates, documents
from tests.conftest import end
from tests.promises.replica_set import Calls, Client, ReplicaSet
from tests.promises.test_interleavings import options

pytestmark = pytest.mark.untraced

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc)


def add(name):
    """Return a function for mutate() that appends to a list."""
    return lambda data: data.setdefault("items", []).append(name)


class Event:
    """What a task did: when it began, and when its method returned."""

    def __init__(self, kind, name, began):
        self.kind, self.name, self.began, self.done = kind, name, began, None


class Actor:
    """A task of a request, with the store that it uses."""

    def __init__(self, store):
        self.store, self.task, self.event = store, None, None


class Site:
    """What the requests of all browsers share: a loop, a client, and the servers."""

    def __init__(self, loop, joins):
        self.loop, self.clock = loop, count()
        self.servers = ReplicaSet()
        self.calls = Calls(self.servers)
        # Nothing loses patience in a queue, so that a busy machine changes no example.
        timeout, queues = (PATIENCE, {}) if joins else (None, None)
        target = SessionCollection(Client(self.calls), timeout, queues=queues)
        clients._clients.by_loop[loop] = target, None
        self.histories = []

    @property
    def tasks(self):
        """The tasks of requests."""
        return [actor.task for each in self.histories for actor in each.actors if actor.task]

    def settle(self):
        """Let every task run that can, and note its result."""

        async def settled():
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settled())
        for history in self.histories:
            history.note_results()

    def decide(self, task, what):
        """Decide what happens to the call that a task waits for.

        If the task waits for a joint call, or in a queue, it happens to the first joint call.
        """
        if task not in self.calls.waiting:
            tasks = self.tasks
            task = next((each for each in self.calls.waiting if each not in tasks), None)
        if task is not None:
            self.calls.fate(task, what)
        self.settle()

    def happen(self, what):
        if what == "fail over":
            self.servers.fail_over()
        elif what == "replicate":
            self.servers.replicate()
        else:
            self.servers.deliver_late(next(self.clock), 2 if what == "late, twice" else 1)

    def finish(self):
        """Reply to everything."""
        while tasks := [*self.tasks, *self.calls.waiting]:
            for task in tasks:
                self.decide(task, "reply")

    def check(self):
        while self.servers.late:
            self.servers.deliver_late(0, 1)
        for history in self.histories:
            history.check()


class History:
    """What was done to one session, and what is true of it in the end."""

    def __init__(self, site, all_move):
        self.site = site
        self.all_move = all_move  # whether other requests move the session too
        self.loop, self.clock, self.names = site.loop, site.clock, count()
        self.servers, self.calls, self.finish = site.servers, site.calls, site.finish
        self.events, self.flushed, self.is_split = [], None, False
        self.shared = shared = SessionStore()
        shared.update({SESSION_KEY: "1", "items": []})
        self.browser = None  # the key in its cookie
        self.actors = [Actor(shared), Actor(shared)]
        site.histories.append(self)
        self.start(self.actors[0], "save", shared.asave())
        self.finish()
        self.browser = shared.session_key
        self.keys = {self.browser}  # those that the browser may have
        self.created = []  # the keys of other sessions
        self.events.clear()
        self.actors += [Actor(SessionStore(self.browser)) for _ in range(2)]

    # What tasks do

    def act(self, number, what):
        actor = self.actors[number]
        store = actor.store
        if actor.task is not None:
            self.go_on(actor, what)
        elif store.session_key is None:
            actor.store = SessionStore(self.browser)
        elif what == "mutate":
            name = f"m{next(self.names)}"
            self.start(actor, what, store.amutate(add(name)), name)
        elif what == "save":
            name = f"s{next(self.names)}"
            self.start(actor, what, self.set_and_save(store, name), name)
        elif what == "read":
            self.start(actor, what, SessionStore(store.session_key).aload())
        elif what == "touch":
            self.start(actor, what, store._atouch())
        elif what == "cycle" and (store is self.shared or self.all_move):
            self.start(actor, what, store.acycle_key())
        elif what == "create":
            self.start(actor, what, self.create())
        elif what == "flush":
            is_another = SESSION_KEY not in getattr(store, "_session_cache", {SESSION_KEY: "1"})
            self.start(actor, what, store.aflush())
            self.flushed = self.flushed or (None if is_another else self.events[-1])
        elif what == "begin anew" and store is not self.shared:
            actor.store = SessionStore(self.browser)

    async def set_and_save(self, store, name):
        await store._aget_session()
        store[name] = 1
        await store.asave()

    async def create(self):
        store = SessionStore()
        store["a"] = 1
        await store.asave()
        return store.session_key

    def start(self, actor, kind, coroutine, name=None):
        actor.event = Event(kind, name, next(self.clock))
        self.events.append(actor.event)
        actor.task = self.loop.create_task(coroutine)
        self.site.settle()

    def go_on(self, actor, what):
        if what == "cancel":
            if actor.task in self.calls.waiting:
                self.calls.cancelled(actor.task, was_sent=True)
            actor.task.cancel()
            self.site.settle()
        else:
            self.site.decide(actor.task, what)

    def note_results(self):
        for actor in self.actors:
            if actor.task is not None and actor.task.done():
                task, actor.task = actor.task, None
                self.told(actor, task)

    def told(self, actor, task):
        event, actor.event = actor.event, None
        if event.kind in ("cycle", "end"):
            self.end_move(actor, event)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or isinstance(error, PyMongoError):
            return
        if isinstance(error, UpdateError):
            # Signed out, or moved away by another store.
            may_be_gone = self.all_move or actor.store is not self.shared
            assert self.flushed or (may_be_gone and self.is_moving())
            return
        if error is not None:
            raise error
        if event.name and SESSION_KEY not in actor.store._session_cache:
            return  # its key was gone when it loaded, so it began another session
        if event.name and self.is_signed_out(event.began):
            assert actor.store.session_key not in self.keys, f"{event.name} is stored nowhere"
        event.done = next(self.clock)
        if event.kind == "read":
            self.check_read(event, task.result())
        if event.kind == "create":
            self.created.append(task.result())

    def end_move(self, actor, event):
        """Give the new key to the browser, as the middleware does once it has saved the session."""
        store = actor.store
        if store._known.unfinished_move is not None and event.kind == "cycle":
            self.start(actor, "end", self.set_and_save(store, "end"))
            return
        # MongoDB failed twice, so other requests may not know the session of the browser's key.
        self.is_split |= store._known.unfinished_move is not None
        if store.session_key is not None:
            self.browser = store.session_key
            self.keys.add(self.browser)

    def is_signed_out(self, by):
        """Return whether a sign-out was acknowledged by that time."""
        done = self.flushed and self.flushed.done
        return done is not None and done < by and not self.is_split

    def is_moving(self):
        """Return whether a task has begun to move the session to another key."""
        return any(event.kind == "cycle" for event in self.events)

    # What must be true

    def check_read(self, event, data):
        """A session that was read has every change acknowledged before the read began."""
        if self.flushed or self.is_moving():
            return
        for earlier in self.events:
            if earlier.done is not None and earlier.done < event.began and earlier.name:
                assert earlier.name in data or earlier.name in data["items"], earlier.name

    def check(self):
        assert all(self.load(key) == {"a": 1} for key in self.created)
        self.finish_moves()
        if self.flushed:
            self.check_signed_out()
            return
        if self.all_move or self.is_split:
            data = self.load(self.browser)
        else:  # the next write of the store that moved the session finishes what was interrupted
            self.start(self.actors[0], "mutate", self.shared.amutate(add("last")), "last")
            self.finish()
            data = self.load(self.shared.session_key)
            self.check_acknowledged(data)
        items = data.get("items", [])
        assert len(items) == len(set(items)), "an update was made twice"

    def finish_moves(self):
        """Let each store whose move was interrupted write once more, as the middleware does."""
        for actor in self.actors:
            if actor.store._known.unfinished_move is not None:
                self.start(actor, "save", self.set_and_save(actor.store, "last"))
                self.finish()

    def load(self, key):
        task = self.loop.create_task(SessionStore(key).aload())
        self.site.settle()
        while not task.done():
            self.site.decide(task, "reply")
        return task.result()

    def check_signed_out(self):
        """After an acknowledged sign-out no key opens the session that a browser may have.

        A move that was cancelled may leave a document under a key that no browser has.
        """
        if self.is_signed_out(next(self.clock)):
            for key in self.keys:
                document = self.servers.primary.find_one({"_id": documents.document_id(key)})
                assert document is None or "user_id" not in document

    def check_acknowledged(self, data):
        items = data["items"]
        done = [event for event in self.events if event.done is not None and event.name]
        for event in done:
            assert event.name in data or event.name in items, f"{event.name} is lost"
        for one in done:
            for other in done:
                if one.kind == other.kind == "mutate" and one.done < other.began:
                    assert items.index(one.name) < items.index(other.name)


FATES = [*["reply"] * 5, "lose the reply", "lose the request", "cancel"]
JOINT_FATES = [*FATES, "lose half", "lose a shard", "lose a shard early", "lose a shard late"]
EVENTS = ["fail over", "replicate", "late", "late, twice"]
WRITES = [*["mutate"] * 6, *["save"] * 3, "read", "read", "touch", "begin anew", "create"]
WORLDS = {  # what tasks do, and whether other requests move the session too
    "one key": (WRITES, False),
    "moves": ([*WRITES, "cycle", "cycle", "cycle"], False),
    "sign-outs": ([*WRITES, "cycle", "flush"], False),
    "moves of all": ([*WRITES, "cycle", "cycle", "flush"], True),
}
PATIENCE = 3600.0  # seconds


@pytest.fixture
def frozen(monkeypatch, settings):
    """All writes are made in one millisecond, and no task waits."""
    settings.MONGO_SESSIONS = {"URI": "mongodb://127.0.0.1:1"}
    monkeypatch.setattr(dates, "utc_now", lambda: NOW)
    monkeypatch.setattr(writes, "_LONGEST_DELAY", 0)
    monkeypatch.setattr(indexes, "_ensured", {("mongodb://127.0.0.1:1", None, "sessions")})
    monkeypatch.setattr(coalescing, "PATIENCE", PATIENCE)


def play(steps, sessions, all_move):
    """Play a history of so many sessions, and check it."""
    loop = asyncio.new_event_loop()
    try:
        site = Site(loop, joins=sessions > 1)
        histories = [History(site, all_move) for _ in range(sessions)]
        for step in steps:
            if isinstance(step, str):
                site.happen(step)
                continue
            session, number, act, fate = step
            for history in histories if session is None else [histories[session]]:
                is_busy = history.actors[number].task is not None
                history.act(number, fate if is_busy else act)
        site.finish()
        site.check()
    finally:
        clients._clients.by_loop.pop(loop, None)
        end(loop)


@pytest.mark.parametrize(("acts", "all_move"), WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("sessions", [1, 3], ids=["alone", "joined"])
def test_acknowledged_changes_are_stored_exactly_once(
    frozen, monkeypatch, sessions, acts, all_move
):
    monkeypatch.setattr(coalescing, "MAX_BATCH", 4)  # so that two are under way at times
    one_or_all = st.sampled_from([*range(sessions), None])
    fates = FATES if sessions == 1 else JOINT_FATES
    task = st.tuples(one_or_all, st.integers(0, 3), st.sampled_from(acts), st.sampled_from(fates))
    steps = st.one_of(task, task, task, st.sampled_from(EVENTS))

    @options(200 if sessions == 1 else 80)
    @given(st.lists(steps, min_size=20 * sessions, max_size=80 * sessions))
    def check(steps):
        play(steps, sessions, all_move)

    check()
