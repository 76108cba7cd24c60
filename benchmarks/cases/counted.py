"""The engine's cases, with every command that PyMongo sends counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import bson
from pymongo import monitoring

from benchmarks.cases import Operation
from benchmarks.cases.django import DjangoCases, Ready
from django_mongo_sessions.storage import codec

# PyMongo sends these to a replica set, and not to a single server.
_TOPOLOGY_FIELDS = ("$clusterTime", "$readPreference", "txnNumber")


class Sent(NamedTuple):
    """A command that was sent."""

    name: str
    beside: int  # bytes of the command without the payload
    payload: int | None  # bytes; None if compressed, since zlib's versions differ


class Commands(monitoring.CommandListener):
    """Record the commands that PyMongo sends."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Record the command."""
        command = {
            name: value for name, value in event.command.items() if name not in _TOPOLOGY_FIELDS
        }
        payload = _payload(command)
        length = None if payload[:1] == codec.DEFLATED else len(payload)
        self.sent.append(Sent(event.command_name, len(bson.encode(command)) - len(payload), length))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing: the command has been recorded."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing: the command has been recorded, and the caller gets the error."""


def _payload(command: dict[str, Any]) -> bytes:
    [document] = command.get("documents", [{}])
    [update] = command.get("updates", [{}])
    payload: bytes = document.get("payload") or update.get("u", {}).get("$set", {}).get("payload")
    return payload or b""


class CountedCases(DjangoCases):
    """The cases of every engine, with their commands counted, but not those that prepare them."""

    def __init__(self) -> None:
        self.commands = Commands()
        monitoring.register(self.commands)  # for all clients that are created later
        super().__init__()

    def prepare(self, case: str, size: int) -> Ready:
        """See DjangoCases."""
        prepared = super().prepare(case, size)

        def counted(number: int) -> Sequence[Operation]:
            operations = prepared(number)
            self.commands.sent.clear()
            return operations

        return counted

    def sent(self) -> list[Sent]:
        """Return the commands of the last run."""
        return self.commands.sent
