"""Engines that a site may have had before. Their sessions are in a dict, and they may fail."""

from datetime import timedelta

from django.contrib.sessions.backends.base import SessionBase

from django_mongo_sessions.storage import dates


class World:
    """What the old engines hold, and what happens when they are called."""

    def __init__(self):
        self.sessions = {}  # the data and the end, by key
        self.calls = []
        self.error = None
        self.meanwhile = lambda: None  # called after each load

    def call(self, name):
        self.calls.append(name)
        if self.error is not None:
            raise self.error

    def put(self, key, seconds=3600, **data):
        self.sessions[key] = data, dates.utc_now() + timedelta(seconds=seconds)
        return self.sessions[key][1]


WORLD = World()


class Store(SessionBase):
    def load(self):
        WORLD.call("load")
        data = WORLD.sessions.get(self.session_key, ({},))[0]
        WORLD.meanwhile()
        return dict(data)

    def exists(self, session_key):
        raise NotImplementedError

    create = save = exists

    def delete(self, session_key=None):
        WORLD.call("delete")
        WORLD.sessions.pop(session_key, None)


class AwaitableStore(Store):
    """One with asynchronous methods of its own."""

    async def aload(self):
        WORLD.calls.append("awaited")
        return self.load()

    async def adelete(self, session_key=None):
        WORLD.calls.append("awaited")
        self.delete(session_key)
