"""The cases of Flask-Session's MongoDB store: reading and writing, without a Flask request."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import cycle, islice
from typing import Any

from django.conf import settings
from flask import Flask
from flask_session.mongodb import MongoDBSessionInterface
from pymongo import MongoClient

from benchmarks import payloads
from benchmarks.cases import Operation

_POOL = 600
_LIFETIME = timedelta(days=14)


class FlaskCases:
    """The two cases that Flask-Session has an equivalent of."""

    def __init__(self) -> None:
        self.client: MongoClient[Any] = MongoClient(settings.MONGODB)
        self.interface = MongoDBSessionInterface(Flask(__name__), self.client)
        self.ids: Iterator[str] = iter(())

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def prepare(self, case: str, size: int) -> Callable[[int], list[Operation]]:
        """See DjangoCases. The store looks up sessions without an index, and so scans half of them
        on average. To keep that fair, no more sessions are stored than the cases use.
        """
        self.interface.store.delete_many({})
        ids = [secrets.token_urlsafe(32) for _ in range(_POOL)]
        for store_id in ids:
            self.interface._upsert_session(_LIFETIME, payloads.data(size), store_id)
        self.ids = cycle(ids)
        run = {"load": self.interface._retrieve_session_data, "load-change-save": self._count}[case]
        return lambda number: [partial(run, store_id) for store_id in islice(self.ids, number)]

    def _count(self, store_id: str) -> None:
        data = self.interface._retrieve_session_data(store_id)
        data["count"] = payloads.next_count(data["count"])
        self.interface._upsert_session(_LIFETIME, data, store_id)
