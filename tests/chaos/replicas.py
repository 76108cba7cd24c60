"""A mongod, or a replica set of three, whose members can be killed and stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo.errors import AutoReconnect, PyMongoError

from testproject import mongod

ELECTION = 2.0  # seconds without a primary after which another is elected
_WAIT = 180  # seconds: a member that was rolled back copies what it has missed
_NAME = "chaos"


class Member:
    """A mongod that can be killed, stopped, continued, and started again on the same port."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.options, self.port = data, options, mongod.free_port()
        self.process_id = 0
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        self._stack.enter_context(mongod.running(self.data, *self.options, port=self.port))
        with self.client() as client:
            self.process_id = client.admin.command("serverStatus")["pid"]

    def client(self) -> MongoClient[Any]:
        """Return a client of this member alone, with short timeouts."""
        soon = {"serverSelectionTimeoutMS": 500, "connectTimeoutMS": 500, "socketTimeoutMS": 500}
        return MongoClient("127.0.0.1", self.port, directConnection=True, **soon)

    def signal(self, number: int) -> None:
        os.kill(self.process_id, number)

    def kill(self) -> None:
        """Kill it, as a power cut does."""
        self.signal(signal.SIGKILL)
        self._stack.close()
        self.process_id = 0

    def close(self) -> None:
        if self.process_id:
            self.signal(signal.SIGCONT)  # a stopped process cannot end
        self._stack.close()


class Server:
    """The MongoDB that a scenario breaks: its URI, and its members."""

    def __init__(self, members: list[Member], uri: str) -> None:
        self.members, self.uri = members, uri

    def primary(self) -> Member | None:
        """Return the member that takes writes, if there is one."""
        for member in self.members:
            try:
                with member.client() as client:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return member
            except PyMongoError:
                continue
        return None

    def wait_for_a_primary(self, other_than: Member | None = None) -> Member:
        """Wait for a primary other than this one, and return it."""
        return until(lambda: (found := self.primary()) is not other_than and found)

    def wait_until_all_follow(self) -> None:
        """Wait until every member has replicated a new write."""
        uri, concern = self.uri, WriteConcern(w=len(self.members), wtimeout=_WAIT * 1000)
        with MongoClient[Any](uri) as client:
            notes = client.chaos.get_collection("notes", write_concern=concern)
            notes.replace_one({"_id": 1}, {}, upsert=True)


def until(found: Callable[[], Any], seconds: float = _WAIT) -> Any:
    """Call a function until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"waited in vain for {seconds:.0f} s"
        time.sleep(0.02)
    return result


@contextmanager
def standalone(folder: Path) -> Iterator[Server]:
    """Run one mongod."""
    with _closing([Member(folder / "mongod")]) as members:
        yield Server(members, f"mongodb://127.0.0.1:{members[0].port}")


@contextmanager
def replica_set(folder: Path) -> Iterator[Server]:
    """Run a replica set of three members."""
    # If a primary hangs, a member that follows it looks for the new one after the election timeout
    # plus one second instead of five. Until then, no majority acknowledges a write.
    soon = "oplogNetworkTimeoutBufferSeconds=1"
    at_once = "shutdownTimeoutMillisForSignaledShutdown=0"  # not after fifteen seconds
    options = ("--replSet", _NAME, "--setParameter", soon, "--setParameter", at_once)
    with _closing([Member(folder / f"member{number}", *options) for number in range(3)]) as members:
        hosts = [f"127.0.0.1:{member.port}" for member in members]
        config = {
            "_id": _NAME,
            "members": [{"_id": number, "host": host} for number, host in enumerate(hosts)],
            "settings": {
                "electionTimeoutMillis": int(ELECTION * 1000),
                "heartbeatIntervalMillis": 500,
            },
        }
        with MongoClient("127.0.0.1", members[0].port, directConnection=True) as client:
            client.admin.command("replSetInitiate", config)
        server = Server(members, f"mongodb://{','.join(hosts)}/?replicaSet={_NAME}")
        server.wait_for_a_primary()
        yield server


def step_down(member: Member) -> None:
    """Let a primary step down."""
    client: MongoClient[Any] = MongoClient("127.0.0.1", member.port, directConnection=True)
    with client, suppress(AutoReconnect):  # it may close all connections
        client.admin.command("replSetStepDown", 20, secondaryCatchUpPeriodSecs=10)


@contextmanager
def _closing(members: list[Member]) -> Iterator[list[Member]]:
    try:
        yield members
    finally:
        for member in members:
            member.close()
