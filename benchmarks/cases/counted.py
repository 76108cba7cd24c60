"""The engine's cases, and what they send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import bson
from pymongo import monitoring

from benchmarks.cases import Operation
from benchmarks.cases.django import DjangoCases, Ready
from django_mongo_sessions.storage import codec

# What PyMongo adds for a replica set, and not for a single server.
_OF_THE_TOPOLOGY = ("$clusterTime", "$readPreference", "txnNumber")


class Sent(NamedTuple):
    """A command."""

    name: str
    beside: int  # bytes of its document without the payload
    payload: int | None  # bytes; None where it is compressed, to what zlib's version makes of it


class Commands(monitoring.CommandListener):
    """Keeps what was sent, until somebody clears it."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note a command."""
        command = {
            name: value for name, value in event.command.items() if name not in _OF_THE_TOPOLOGY
        }
        payload = _payload(command)
        length = None if payload[:1] == codec.DEFLATED else len(payload)
        self.sent.append(Sent(event.command_name, len(bson.encode(command)) - len(payload), length))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more was sent."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing more was sent; whoever has called gets the error."""


def _payload(command: dict[str, Any]) -> bytes:
    [document] = command.get("documents", [{}])
    [update] = command.get("updates", [{}])
    payload: bytes = document.get("payload") or update.get("u", {}).get("$set", {}).get("payload")
    return payload or b""


class CountedCases(DjangoCases):
    """Everybody's cases; what readies them is not counted."""

    def __init__(self) -> None:
        self.commands = Commands()
        monitoring.register(self.commands)  # for the clients that are made from now on
        super().__init__()

    def prepare(self, case: str, size: int) -> Ready:
        """See cases.django."""
        ready = super().prepare(case, size)

        def counted(number: int) -> Sequence[Operation]:
            operations = ready(number)
            self.commands.sent.clear()
            return operations

        return counted

    def sent(self) -> list[Sent]:
        """Return what the last run has sent."""
        return self.commands.sent
