"""The cases of this engine: those of every engine, and its own processor time."""

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


class InstantCollection:
    """A collection of one document. It returns the replies of a real one at once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.updated = UpdateResult({"n": 1, "nModified": 1}, acknowledged=True)

    def find_one(self, *args: Any) -> dict[str, Any]:
        """Return a new dict at each call, as if it were decoded from a reply."""
        return dict(self.document)

    def update_one(self, *args: Any) -> UpdateResult:
        """Return that the document was changed."""
        return self.updated


class OurCases(DjangoCases):
    """The cases of every engine, and `OWN_CPU`."""

    def __init__(self) -> None:
        super().__init__()
        self.target = clients.collection()
        self.cases[OWN_CPU] = self.own_cpu

    def prepare(self, case: str, size: int) -> Ready:
        """See DjangoCases."""
        clients._clients.blocking = self.target
        ready = super().prepare(case, size)
        if case == OWN_CPU:
            self._replace_collection()
        return ready

    def _replace_collection(self) -> None:
        self.key = self._next(1)[0]
        document_id = documents.document_id(self.key)
        document = self.target.collection.find_one({"_id": document_id})
        clients._clients.blocking = SessionCollection(
            InstantCollection(document), self.target.timeout, owned=False
        )

    def own_cpu(self, number: int) -> list[Operation]:
        """Load, change and save a session, while MongoDB and PyMongo take no time."""
        return [partial(load_change_save, self.store, self.key)] * number
