"""An event loop whose server replies when a test says so."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import SessionCollection
from tests.conftest import collection, end


class Scheduled:
    """The collection for a loop. Each call waits twice: before it is applied, and for its reply."""

    def __init__(self, scheduler, wrapped):
        self._scheduler, self._wrapped = scheduler, wrapped

    @property
    def write_concern(self):
        return self._wrapped.write_concern

    def with_options(self, **options):
        return Scheduled(self._scheduler, self._wrapped.with_options(**options))

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            await self._scheduler.pause()
            result = getattr(self._wrapped, name)(*args, **kwargs)
            await self._scheduler.pause()
            return result

        return call


class Scheduler:
    """Starts the verbs of tasks, and lets them continue step by step."""

    def __init__(self, loop):
        self.loop = loop
        self.paused = {}  # the future that each task waits for

    async def pause(self):
        task, future = asyncio.current_task(), self.loop.create_future()
        self.paused[task] = future
        try:
            await future
        finally:
            self.paused.pop(task, None)

    def start(self, coroutine):
        """Start a task, and return it once it waits."""
        task = self.loop.create_task(coroutine)
        self.settle()
        return task

    def step(self, task):
        """Let a task continue to its next pause, if it is not waiting for its turn."""
        if task in self.paused:
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
            if waiting:
                self.step(waiting[0])
            else:
                self.settle()
        return [task.exception() or task.result() for task in tasks]


@contextmanager
def scheduled():
    """Yield a scheduler for the engine's collection."""
    loop = asyncio.new_event_loop()
    scheduler = Scheduler(loop)
    target = SessionCollection(Scheduled(scheduler, collection()))
    clients._clients.by_loop[loop] = target, None
    try:
        yield scheduler
    finally:
        clients._clients.by_loop.pop(loop, None)
        end(loop)
