"""The engine's cases: everybody's, and one of its own time alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pymongo.results import UpdateResult

from benchmarks.cases import OWN_CPU, Operation
from benchmarks.cases.django import DjangoCases, Ready, load_change_save
from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.storage import documents


class Instant:
    """Stands in for a collection: it has one document, and answers at once, with real replies."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.updated = UpdateResult({"n": 1, "nModified": 1}, acknowledged=True)

    def find_one(self, *args: Any) -> dict[str, Any]:
        """Return a dict of its own to each, as decoding a reply does."""
        return dict(self.document)

    def update_one(self, *args: Any) -> UpdateResult:
        """Say that the document was changed."""
        return self.updated


class OurCases(DjangoCases):
    """Everybody's cases, and `OWN_CPU`."""

    def __init__(self) -> None:
        super().__init__()
        self.target = clients.collection()
        self.cases[OWN_CPU] = self.own_cpu

    def prepare(self, case: str, size: int) -> Ready:
        """See cases.django."""
        clients._clients.blocking = self.target
        ready = super().prepare(case, size)
        if case == OWN_CPU:
            self._replace_the_collection()
        return ready

    def _replace_the_collection(self) -> None:
        self.key = self._next(1)[0]
        document_id = documents.document_id(self.key)
        document = self.target.collection.find_one({"_id": document_id})
        clients._clients.blocking = SessionCollection(
            Instant(document), self.target.timeout, owned=False
        )

    def own_cpu(self, number: int) -> list[Operation]:
        """Load, change and save, where MongoDB and PyMongo take no time."""
        return [partial(load_change_save, self.store, self.key)] * number
