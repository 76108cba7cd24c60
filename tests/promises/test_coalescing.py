"""What was acknowledged is there exactly once, whatever meets in the commands that are sent."""

import asyncio
import gc
import threading
from collections import Counter
from contextlib import suppress

import pytest
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect, NetworkTimeout, PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from tests.conftest import IS_LONG, collection, end

CUT = "cut before", "cut after", "late before", "late after"
WRITES = {"update_one", "insert_one", "bulk_write"}
ERRORS = {"cut": AutoReconnect("connection closed"), "late": NetworkTimeout("timed out")}
SESSIONS = 3


class Broken:
    """A collection whose connections break as planned, before or after a write has arrived."""

    def __init__(self, wrapped, fates, is_async):
        self._wrapped, self._fates, self._is_async = wrapped, fates, is_async
        self.sizes = []

    def with_options(self, **options):
        return Broken(self._wrapped.with_options(**options), self._fates, self._is_async)

    def __getattr__(self, name):
        real = getattr(self._wrapped, name)
        if name not in WRITES:
            return real

        def call(*args, **kwargs):
            kind, _, when = (self._fates.pop() if self._fates else "").partition(" ")
            if name == "bulk_write":
                self.sizes.append(len(args[0]))
            if self._is_async:
                return later(kind, when, lambda: real(*args, **kwargs))
            if when == "before":
                raise type(ERRORS[kind])(str(ERRORS[kind]))
            reply = real(*args, **kwargs)
            if kind:
                raise type(ERRORS[kind])(str(ERRORS[kind]))
            return reply

        async def later(kind, when, write):
            if when == "before":
                raise type(ERRORS[kind])(str(ERRORS[kind]))
            reply = await write()
            if kind:
                raise type(ERRORS[kind])(str(ERRORS[kind]))
            return reply

        return call


class Run:
    """What many did at the same moment to a few sessions."""

    def __init__(self, keys):
        self.keys = keys
        self.acknowledged, self.tried = Counter(), Counter()
        self.ended, self.created = set(), []

    def item(self, number, session):
        self.tried[session, number] += 1
        return lambda data: data.setdefault("items", []).append(number)

    def begin(self, number, what, session):
        """Return the store, the verb and its arguments, and what to do once it is acknowledged."""
        store = SessionStore(self.keys[session])
        if what == "mutate":

            def acknowledge():
                self.acknowledged[session, number] += 1

            return store, "mutate", [self.item(number, session)], acknowledge
        if what == "flush":
            return store, "flush", [], lambda: self.ended.add(session)
        store = SessionStore()
        store["number"] = number
        return store, "save", [], lambda: self.created.append((store.session_key, number))

    def check(self):
        """Compare what was acknowledged with what is stored."""
        for session, key in enumerate(self.keys):
            store = SessionStore(key)
            data = store.load()
            if session in self.ended:
                assert data == {}
                continue
            if store.session_key is None:  # ended by a flush that nobody heard of
                continue
            items = Counter(data["items"])
            assert max(items.values(), default=0) <= 1
            for (of, number), count in self.acknowledged.items():
                if of == session:
                    assert items[number] == count == 1
            assert items.keys() <= {number for of, number in self.tried if of == session}
        for key, number in self.created:
            assert SessionStore(key).load() == {"number": number}


MANY = st.lists(
    st.tuples(
        st.sampled_from(["mutate"] * 6 + ["create", "flush"]),
        st.integers(0, SESSIONS - 1),
        st.sampled_from([None] * 5 + [0, 1, 2, 3, 5, 8]),  # when its task is cancelled
    ),
    min_size=2,
    max_size=12,
)
FATES = st.lists(st.sampled_from(["", "", "", *CUT]), max_size=12)
EXAMPLES = settings(max_examples=100 if IS_LONG else 25)


@pytest.fixture
def run(mongod_engine, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native", "TIMEOUT": 60}

    def begin():
        collection().delete_many({})
        keys = []
        for _ in range(SESSIONS):
            store = SessionStore()
            store["items"] = []
            store.save()
            keys.append(store.session_key)
        return Run(keys)

    yield begin
    gc.collect()  # what a cancelled task left is this test's, and not the next one's


# PyMongo leaves a connection to the garbage collector if its task is cancelled while it is opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@EXAMPLES
@given(many=MANY, fates=FATES)
def test_what_tasks_were_told_is_true(run, many, fates):
    run, loop = run(), asyncio.new_event_loop()

    async def act(number, what, session):
        store, verb, args, acknowledge = run.begin(number, what, session)
        with suppress(PyMongoError, UpdateError):
            await getattr(store, f"a{verb}")(*args)
            acknowledge()

    async def main():
        target = await clients.acollection()
        _, holder = clients._clients.by_loop[loop]
        broken = target._replace(collection=Broken(target.collection, list(fates), True))
        clients._clients.by_loop[loop] = broken, holder
        tasks = []
        for number, (what, session, cancelled) in enumerate(many):
            task = asyncio.create_task(act(number, what, session))
            tasks.append(task)
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled / 1000, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        while any(queue.tasks for queue in broken.queues.values()):  # nobody waits for these now
            await asyncio.sleep(0.001)
        assert {queue.under_way for queue in broken.queues.values()} <= {0}
        assert not any(queue.waiting for queue in broken.queues.values())
        clients._clients.by_loop[loop] = target, holder

    try:
        loop.run_until_complete(asyncio.wait_for(main(), 120))
    finally:
        end(loop)
    run.check()


@EXAMPLES
@given(many=MANY, fates=FATES)
def test_what_threads_were_told_is_true(run, many, fates):
    run, target = run(), clients.collection()
    broken = target._replace(collection=Broken(target.collection, list(fates), False))

    def act(number, what, session):
        store, verb, args, acknowledge = run.begin(number, what, session)
        with suppress(PyMongoError, UpdateError):
            getattr(store, verb)(*args)
            acknowledge()

    threads = [
        threading.Thread(target=act, args=(number, what, session))
        for number, (what, session, _) in enumerate(many)
    ]
    clients._clients.blocking = broken
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    finally:
        clients._clients.blocking = target
    assert {queue.under_way for queue in broken.queues.values()} <= {0}
    run.check()
