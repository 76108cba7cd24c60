"""A replica set in plain Python, whose network and failovers are controlled by a test.

It holds BSON as MongoDB does. A write is acknowledged once the majority has it, and with it all
earlier writes. A write that was not acknowledged may be lost in a failover.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError

from tests.fuzz.collection import CODEC_OPTIONS, Collection, Cursor

WRITES = {"insert_one", "update_one", "replace_one", "delete_one", "bulk_write"}
_HOST_UNREACHABLE = 6


class ReplicaSet:
    """The servers, and the messages that are on their way to them."""

    def __init__(self):
        self.primary = Collection()
        self.majority = {}  # what no failover can undo
        self.late = []  # writes whose connection broke, and which may still arrive

    def apply(self, call):
        """Apply a call on the primary."""
        name, args, kwargs = call
        return getattr(self.primary, name)(*args, **kwargs)

    def apply_unheard(self, call):
        """Apply a call whose result gets lost."""
        with suppress(DuplicateKeyError, BulkWriteError):
            self.apply(call)

    def replicate(self):
        """Bring the majority up to date: what the primary has now is acknowledged from here on."""
        self.majority = dict(self.primary.stored)

    def fail_over(self):
        """Let another member become primary: what the majority does not have is rolled back."""
        self.primary.stored = dict(self.majority)

    def deliver_late(self, index, times):
        """Let a message arrive whose connection has broken, perhaps more than once."""
        if self.late:
            call = self.late.pop(index % len(self.late))
            for _ in range(times):
                self.apply_unheard(call)


class Calls:
    """The calls of tasks. Each waits for the test to decide what happens to it."""

    def __init__(self, servers):
        self.servers = servers
        self.waiting = {}  # by task: its call, and the future that it waits for

    def fate(self, task, what):
        """Decide what happens to the call that a task waits for.

        What can only happen to some statements of a joint write happens to all of another call.
        """
        call, future = self.waiting.pop(task)
        if what.startswith("lose a shard") and call[0] == "bulk_write":
            self._lose_a_shard(call, future, what)
        elif what == "reply":
            self._reply(call, future)
        else:
            lost = None
            if what == "lose the request":
                lost = call
            elif what == "lose half" and call[0] == "bulk_write":
                call, lost = split(call, len(call[1][0]) // 2)
            if lost != call:
                self.servers.apply_unheard(call)
            if lost is not None and lost[0] in WRITES:
                self.servers.late.append(lost)
            future.set_exception(AutoReconnect("connection closed"))

    def _lose_a_shard(self, call, future, what):
        """Let mongos report that the last statement of a joint write may have been applied.

        It was, or not if the shard was lost early. If it was lost late, it may yet be.
        """
        call, lost = split(call, last := len(call[1][0]) - 1)
        if what.endswith("late"):
            self.servers.late.append(lost)
        elif not what.endswith("early"):
            self.servers.apply_unheard(lost)
        try:
            details = self.servers.apply(call).bulk_api_result
        except BulkWriteError as error:
            details = error.details
        self.servers.replicate()
        unreachable = {"index": last, "code": _HOST_UNREACHABLE, "errmsg": "a shard is lost"}
        details["writeErrors"].append(unreachable)
        future.set_exception(BulkWriteError(details))

    def cancelled(self, task, was_sent):
        """Note that a task was cancelled while it waited. Its call may still arrive."""
        call, _ = self.waiting.pop(task)
        if was_sent and call[0] in WRITES:
            self.servers.late.append(call)

    def _reply(self, call, future):
        try:
            result = self.servers.apply(call)
        except BulkWriteError as error:  # its other statements are acknowledged
            self.servers.replicate()
            future.set_exception(error)
            return
        except Exception as error:
            future.set_exception(error)
            return
        if call[0] in WRITES:
            self.servers.replicate()
        future.set_result(result)


def split(call, at):
    """Return two joint writes, with the statements of one before and after an index."""
    name, [statements], kwargs = call
    return (name, [statements[:at]], kwargs), (name, [statements[at:]], kwargs)


class Client:
    """The collection as a task sees it."""

    write_concern, codec_options = Collection.write_concern, CODEC_OPTIONS

    def __init__(self, calls):
        self._calls = calls

    def find(self, *args):
        return Cursor(lambda: self.find_all(*args))

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            future = asyncio.get_running_loop().create_future()
            self._calls.waiting[asyncio.current_task()] = (name, args, kwargs), future
            return await future

        return call
