"""Send each operation with others of its kind, as if they had waited together."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from django_mongo_sessions.mongo import coalescing
from django_mongo_sessions.mongo.coalescing import Queue, TaskQueue, ThreadQueue
from django_mongo_sessions.mongo.runner import Operation

ALONE = "alone"  # the result of an operation that is to be repeated alone
_SECONDS = 60.0  # that each operation has


class Company(Protocol):
    """What goes out with an operation."""

    sent: int  # the operations so far

    def others(self, kind: type) -> list[tuple[Operation[Any], Collection[Any]]]:
        """Return other operations of a kind, each with the results that it may have."""


def queue(kind: type[Queue], target: Any, company: Company) -> Any:
    """Return what takes the place of a queue of this kind."""
    return {ThreadQueue: _ThreadQueue, TaskQueue: _TaskQueue}[kind](target.collection, company)


class _Queue(Queue):
    """A queue in which others wait whenever an operation arrives."""

    def __init__(self, collection: Any, company: Company) -> None:
        super().__init__(collection)
        self.company = company

    async def _send(self, operation: Any, settle: Any) -> Any:
        others = self.company.others(type(operation.joint))
        place = self.company.sent % (len(others) + 1)
        self.company.sent += 1
        together = [*others[:place], (operation, ()), *others[place:]]
        entries = [self._join(each, _SECONDS, None) for each, _ in together]
        ours = entries.pop(place)
        if ours is None:  # it cannot go out with others
            return await settle(operation.call(self.collection))
        await self._serve(self._take([]), settle)
        for entry, (other, results) in zip(entries, others, strict=True):
            assert entry is not None
            result = ALONE if entry.outcome is None else other.read(entry.result())
            assert result in results
        if ours.outcome is None:
            return await settle(operation.call(self.collection))
        return ours.result()


class _ThreadQueue(_Queue):
    def call(self, operation: Any, seconds: float | None) -> Any:
        try:
            self._send(operation, coalescing._returned).send(None)
        except StopIteration as stop:
            return stop.value


class _TaskQueue(_Queue):
    async def call(self, operation: Any, seconds: float | None) -> Any:
        return await self._send(operation, coalescing._same)
