"""Tasks of one request that share its session: what each of them has stored is kept."""

import asyncio
import itertools
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.mongo import operations
from tests.conftest import collection, count_sessions
from tests.promises.company import CERTAIN_FATES
from tests.promises.scheduler import MODES, scheduled, scheduled_in_threads
from tests.promises.test_interleavings import count, equal, options


def held(store):
    """Return what is stored under a store's key."""
    return SessionStore(store.session_key).load()


def saved(**data):
    """Return a store that has saved these data."""
    store = SessionStore()
    store.update(data)
    store.save()
    return store


def add(item):
    """Return a function for mutate() that appends to a list."""
    return lambda data: data.setdefault("items", []).append(item)


def test_two_tasks_that_save_a_new_session_store_only_one(scheduler):
    store = SessionStore()
    store["a"] = 1
    first = scheduler.start(store.asave())
    store["b"] = 2

    scheduler.finish(scheduler.start(store.asave()), first)

    assert held(store) == {"a": 1, "b": 2}
    assert count_sessions() == 1


def test_two_tasks_that_mutate_a_new_session_store_only_one(scheduler):
    store = SessionStore()
    tasks = [scheduler.start(store.amutate(add(n))) for n in range(2)]

    scheduler.finish(*tasks)

    assert dict(store.items()) == held(store) == {"items": [0, 1]}
    assert count_sessions() == 1


def test_two_tasks_that_load_a_session_get_the_same_dict(scheduler):
    store = SessionStore(saved(a=1).session_key)
    tasks = [scheduler.start(store._aget_session()) for _ in range(2)]  # 4.2 has no aget()

    one, other = scheduler.finish(*tasks)

    assert one == {"a": 1}
    assert one is other
    store["b"] = 2
    store.save()
    assert held(store) == {"a": 1, "b": 2}


def test_two_tasks_that_move_a_session_leave_one_that_is_signed_in(scheduler):
    store = saved(**{SESSION_KEY: "1"})
    tasks = [scheduler.start(store.acycle_key()) for _ in range(2)]

    scheduler.finish(*tasks)

    assert held(store) == {SESSION_KEY: "1"}
    assert count_sessions() == 1


def test_a_task_whose_session_moves_follows_it(scheduler):
    store = saved(a=1)
    login = scheduler.start(store.acycle_key())
    mutation = scheduler.start(store.amutate(add(1)))

    scheduler.finish(mutation, login)

    assert dict(store.items()) == held(store) == {"a": 1, "items": [1]}
    assert count_sessions() == 1


def test_what_another_request_stores_in_between_is_kept(scheduler):
    store = saved(n=0)
    other = SessionStore(store.session_key)
    first = scheduler.start(store.amutate(lambda data: data.update(n=1)))
    second = scheduler.start(store.asave())
    for _ in range(3):  # it is stored, and its reply is under way
        scheduler.step(first)
    other.mutate(lambda data: data.update(n=2))

    scheduler.finish(first, second)

    assert held(store) == {"n": 2}
    store["a"] = 1
    store.save()
    assert dict(store.items()) == held(store) == {"n": 2, "a": 1}


def test_a_flush_while_the_session_moves_leaves_nothing(scheduler):
    store = saved(**{SESSION_KEY: "1"})
    login = scheduler.start(store.acycle_key())
    scheduler.step(login)

    scheduler.finish(login, scheduler.start(store.aflush()))

    assert store.session_key is None
    assert count_sessions() == 0


def test_a_blocking_save_in_the_middle_of_a_save_costs_neither_its_changes(do, monkeypatch):
    store, update = saved(a=1), operations.update

    def overtaken(*args):
        monkeypatch.setattr(operations, "update", update)
        store["b"] = 2
        store.save()
        return update(*args)

    monkeypatch.setattr(operations, "update", overtaken)
    store["c"] = 3
    do(store, "save")

    assert dict(store.items()) == held(store) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("name", ["insert", "replace_with"])
def test_a_blocking_save_in_the_middle_of_a_move_leaves_the_session(do, monkeypatch, name):
    store, make = saved(a=1, **{SESSION_KEY: "7"}), getattr(operations, name)
    told = []

    def overtaken(*args):
        operation = make(*args)

        def read(reply):
            monkeypatch.setattr(operations, name, make)
            store["b"] = 2
            with suppress(UpdateError):  # if the session is not there any more
                store.save()
            told.append(reply)
            return operation.read(reply)

        return replace(operation, read=read, joint=None)

    monkeypatch.setattr(operations, name, overtaken)
    do(store, "cycle_key")
    do(store, "save")

    assert len(told) == 1
    assert dict(store.items()) == held(store) == {"a": 1, "b": 2, SESSION_KEY: "7"}


def test_a_blocking_move_in_the_middle_of_a_save_is_not_undone(do, monkeypatch):
    store, make = saved(a=1, **{SESSION_KEY: "7"}), operations.update

    def overtaken(*args):
        operation = make(*args)

        def read(reply):
            monkeypatch.setattr(operations, "update", make)
            store.cycle_key()
            return operation.read(reply)

        return replace(operation, read=read, joint=None)

    monkeypatch.setattr(operations, "update", overtaken)
    store["b"] = 2
    do(store, "save")
    do(store, "save")

    assert held(store) == {"a": 1, "b": 2, SESSION_KEY: "7"}
    assert count_sessions() == 1


def test_a_blocking_move_in_the_middle_of_one_that_is_cancelled_is_not_undone(do, monkeypatch):
    store, insert, leave = saved(**{SESSION_KEY: "7"}), operations.insert, operations.replace_with

    def cancel(reply):
        raise asyncio.CancelledError

    def cancelled(*args):
        monkeypatch.setattr(operations, "replace_with", leave)
        return replace(leave(*args), read=cancel, joint=None)

    def overtaken(*args):
        monkeypatch.setattr(operations, "insert", insert)
        store.cycle_key()
        monkeypatch.setattr(operations, "replace_with", cancelled)
        return insert(*args)

    monkeypatch.setattr(operations, "insert", overtaken)
    with pytest.raises(asyncio.CancelledError):
        do(store, "cycle_key")
    store["a"] = 1
    do(store, "save")

    assert held(store) == {"a": 1, SESSION_KEY: "7"}
    assert count_sessions() == 1


def test_a_task_that_fails_lets_the_next_one_go_on(scheduler):
    store = saved(a=1)

    def fail(data):
        raise ZeroDivisionError

    failing = scheduler.start(store.amutate(fail))
    [error, _] = scheduler.finish(failing, scheduler.start(store.amutate(count)))

    assert isinstance(error, ZeroDivisionError)
    assert held(store) == {"a": 1, "count": 1}


def test_a_task_that_is_cancelled_while_it_waits_sends_nothing(scheduler):
    store = saved(a=1)
    first = scheduler.start(store.amutate(count))
    waiting = scheduler.start(store.amutate(count))

    waiting.cancel()
    scheduler.settle()

    assert waiting.cancelled()
    scheduler.finish(first)
    assert held(store) == {"a": 1, "count": 1}


def test_a_task_whose_loop_has_got_its_own_client_meanwhile_takes_its_turn_too(
    mongod_engine, monkeypatch, before
):
    store, goes_on = saved(a=1), threading.Event()

    async def race():
        monkeypatch.setattr(clients, "PROMOTION_AGE", float("inf"))
        before("update", goes_on.wait)
        first = asyncio.create_task(store.amutate(count))
        await asyncio.sleep(0)
        monkeypatch.setattr(clients, "PROMOTION_AGE", 0)
        second = asyncio.create_task(store.amutate(count))
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
        return await asyncio.gather(first, second)

    assert asyncio.run(race()) == [1, 2]
    assert held(store) == {"a": 1, "count": 2}


@pytest.mark.parametrize("steps", range(4))
def test_a_task_that_is_cancelled_changes_its_session_no_more(engine, steps):
    with scheduled_in_threads() as scheduler:
        store = saved(a=1)
        store["b"] = 2
        task = scheduler.start(store.amutate(count))
        for _ in range(steps):
            scheduler.step(task)
        task.cancel()
        scheduler.settle()
        left = repr(vars(store))

        scheduler.release()  # the thread makes the call all the same

        assert task.cancelled()
        assert repr(vars(store)) == left
        scheduler.finish(scheduler.start(store.amutate(count)))
        assert held(store) == dict(store.items())
        assert held(store)["count"] == 1 + (steps > 1)


def test_a_session_serves_several_loops_one_after_another(engine):
    store = saved(a=1)

    for n in range(1, 4):

        async def race():
            await asyncio.gather(*(store.amutate(count) for _ in range(3)))

        asyncio.run(race())
        assert held(store)["count"] == 3 * n


class Task:
    """A task of a request, and what must be true once it is done."""

    def __init__(self, store):
        self.store, self.task, self.done = store, None, None

    def start(self, scheduler, coroutine, done=lambda: None):
        self.task, self.done = scheduler.start(coroutine), done

    def look(self):
        """Note the result if the task is done; raise what it raised."""
        if self.task is not None and self.task.done():
            task, self.task = self.task, None
            task.result()
            self.done()


class Tasks:
    """Two tasks that share a store, and another request. Acknowledged changes are kept."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.shared = saved(**{SESSION_KEY: "1"})
        self.tasks = [Task(self.shared), Task(self.shared), None]
        self.load_other()
        self.names = map(str, itertools.count())
        self.present, self.absent, self.mutations, self.maybe = set(), set(), 0, 0

    def load_other(self):
        self.tasks[2] = Task(SessionStore(self.shared.session_key))
        self.tasks[2].store._get_session()

    def go_on(self, task, what):
        if task.task is not None:
            self.scheduler.step(task.task)
        elif what == "set":
            name = next(self.names)
            task.store[name] = 1
            task.start(self.scheduler, task.store.asave(), lambda: self.present.add(name))
        elif what == "pop":
            names = self.present & task.store._get_session().keys()
            if task.store is self.shared and names:
                name = min(names)
                self.present.remove(name)
                del task.store[name]
                task.start(self.scheduler, task.store.asave(), lambda: self.absent.add(name))
        elif what == "mutate":
            self.maybe += 1
            task.start(self.scheduler, task.store.amutate(count), self.mutated)
        elif what == "touch":
            task.start(self.scheduler, task.store._atouch())
        elif what == "cycle_key" and task.store is self.shared:
            task.start(self.scheduler, task.store.acycle_key())

    def mutated(self):
        self.mutations += 1

    def step(self, n, what):
        if self.tasks[n].store.session_key is None:  # it loaded while the session moved
            self.load_other()
            return
        self.go_on(self.tasks[n], what)
        for number, task in enumerate(self.tasks):
            try:
                task.look()
            except UpdateError:
                assert number == 2, "only another request may find that the session has moved away"
                self.load_other()

    def finish(self):
        while any(task.task for task in self.tasks):
            for n in range(3):
                if self.tasks[n].task:
                    self.step(n, None)

    def check(self):
        """The stored session equals what was acknowledged, and what the store shows."""
        found = held(self.shared)
        assert count_sessions() == 1
        assert self.present <= found.keys()
        assert not self.absent & found.keys()
        assert self.mutations <= found.get("count", 0) <= self.maybe
        return found


@pytest.mark.untraced
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seconds", [0, 1])
def test_acknowledged_changes_of_tasks_that_share_a_store_are_kept(
    engine, monkeypatch, company, seconds, mode
):
    monkeypatch.setattr("django_mongo_sessions.engine.session.WRITE_INTERVAL", seconds)
    monkeypatch.setattr("django_mongo_sessions.mongo.writes._LONGEST_DELAY", 0)
    whats = ["set", "set", "pop", "mutate", "mutate", "cycle_key", "touch"]
    steps = st.tuples(st.integers(0, 2), st.sampled_from(whats))

    @options(100 if mode is scheduled else 20)
    @given(st.lists(steps, min_size=30, max_size=60), CERTAIN_FATES)
    def check(steps, fates):
        with mode(clients.collection().queues) as scheduler:
            collection().delete_many({})
            company.begin(fates)
            tasks = Tasks(scheduler)
            for step in steps:
                tasks.step(*step)
            tasks.finish()
            tasks.check()
            tasks.shared["last"] = 1
            tasks.shared.save()
            assert equal(tasks.check(), tasks.shared._get_session())

    check()
