"""An event loop whose server replies when a test says so."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar

from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import SessionCollection
from tests.conftest import collection, end

_task = ContextVar("_task")  # for whom a call is made


class Scheduled:
    """The collection for a loop. Each call waits twice: before it is applied, and for its reply."""

    def __init__(self, scheduler, wrapped):
        self._scheduler, self._wrapped = scheduler, wrapped

    @property
    def write_concern(self):
        return self._wrapped.write_concern

    @property
    def codec_options(self):
        return self._wrapped.codec_options

    @property
    def database(self):
        return self._wrapped.database

    def with_options(self, **options):
        return Scheduled(self._scheduler, self._wrapped.with_options(**options))

    def find(self, *args):
        return Cursor(lambda: self.list_found(*args))

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            await self._scheduler.pause()
            if name == "list_found":
                result = list(self._wrapped.find(*args))
            else:
                result = getattr(self._wrapped, name)(*args, **kwargs)
            await self._scheduler.pause()
            return result

        return call


class Cursor:
    """What `find` returns at once. Its call is the one that reads it."""

    def __init__(self, to_list):
        self.to_list = to_list


class Scheduler:
    """Starts the verbs of tasks, and lets them continue step by step."""

    def __init__(self, loop):
        self.loop = loop
        self.tasks = []
        self.paused = {}  # the future that each task waits for

    async def pause(self):
        task, future = _task.get(), self.loop.create_future()
        self.paused[task] = future
        try:
            await future
        finally:
            self.paused.pop(task, None)

    def start(self, coroutine):
        """Start a task, and return it once it waits."""

        async def named():
            _task.set(asyncio.current_task())
            return await coroutine

        self.tasks.append(self.loop.create_task(named()))
        self.settle()
        return self.tasks[-1]

    def step(self, task):
        """Let a task continue to its next pause, if it is not waiting for its turn."""
        if task in self.paused and not self.paused[task].done():  # it may have been cancelled
            self.paused[task].set_result(None)
        self.settle()

    def settle(self):
        """Let every task run that can."""

        async def settled():
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settled())

    def finish(self, *tasks):
        """Let these tasks end, in this order if they can, and return what they return."""
        while not all(task.done() for task in tasks):
            waiting = [task for task in tasks if task in self.paused]
            waiting += [task for task in self.paused if task.done()]  # the thread still makes it
            if waiting:
                self.step(waiting[0])
            else:
                self.settle()
        return [task.exception() or task.result() for task in tasks]


class Blocking(Scheduled):
    """The collection for the thread that serves a loop."""

    def with_options(self, **options):
        return Blocking(self._scheduler, self._wrapped.with_options(**options))

    def __getattr__(self, name):
        def call(*args, **kwargs):
            with self._scheduler.thread():
                self._scheduler.block()
                if name == "list_found":
                    result = list(self._wrapped.find(*args))
                else:
                    result = getattr(self._wrapped, name)(*args, **kwargs)
                self._scheduler.block()
                return result

        return call


class ThreadScheduler(Scheduler):
    """The same for a loop that a thread serves: it makes one call at a time."""

    def __init__(self, loop):
        super().__init__(loop)
        self.calls = 0

    @contextmanager
    def thread(self):
        """What the thread does while it makes a call."""
        is_another = threading.current_thread() is not threading.main_thread()
        self.calls += is_another
        try:
            yield
        finally:
            self.calls -= is_another

    def block(self):
        if threading.current_thread() is not threading.main_thread():
            goes_on = threading.Event()
            self.paused[_task.get()] = goes_on
            assert goes_on.wait(60)

    def step(self, task):
        if task in self.paused:
            self.paused.pop(task).set()
        self.settle()

    def settle(self):
        """Let every task run that can: until the thread waits, or nothing is to be done."""

        async def settled():
            for _ in range(10):
                await asyncio.sleep(0)
            while not self.paused and not all(task.done() for task in self.tasks):
                await asyncio.sleep(0.0005)
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settled())

    def release(self):
        """Let the thread finish what nobody waits for any more."""
        while self.calls:
            for task in list(self.paused):
                self.paused.pop(task).set()
            time.sleep(0.0005)


@contextmanager
def scheduled(queues=None):
    """Yield a scheduler for the engine's collection, with a client of the loop's own.

    Without queues, no operation waits for another.
    """
    loop = asyncio.new_event_loop()
    scheduler = Scheduler(loop)
    target = SessionCollection(Scheduled(scheduler, collection()), queues=queues)
    clients._clients.by_loop[loop] = target, None
    try:
        yield scheduler
    finally:
        clients._clients.by_loop.pop(loop, None)
        end(loop)


@contextmanager
def scheduled_in_threads(queues=None):
    """See scheduled(). A thread makes the calls."""
    loop = asyncio.new_event_loop()
    scheduler = ThreadScheduler(loop)
    real, age = clients.collection(), clients.PROMOTION_AGE
    calls = Blocking(scheduler, real.collection)
    clients._clients.blocking = real._replace(collection=calls, queues=queues)
    clients.PROMOTION_AGE = float("inf")
    try:
        yield scheduler
    finally:
        scheduler.release()
        clients._clients.blocking, clients.PROMOTION_AGE = real, age
        end(loop)


MODES = [scheduled, scheduled_in_threads]
