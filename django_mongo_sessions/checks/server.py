"""Check the server, and Django's table of sessions: what connects, for `check --database`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions.checks import settings
from django_mongo_sessions.checks.messages import message
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import clients, collection, errors
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run

OLDEST_SERVER = [4, 4]


def check_server(databases: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the server replies, is new enough, and has the indexes."""
    if not databases or settings.are_wrong() or collection.uses_mock():
        return []
    found: list[checks.CheckMessage] = []
    try:
        client = clients.collection().client
        if collection.is_mock(client):
            return []
        if conf.CLIENT is not None:  # which no other check has called
            found += settings.check_database(client)
        found += _check_server(client)
    except ImproperlyConfigured as error:
        found.append(message("E008", problem=error))
    except PyMongoError as error:
        id = "W012" if isinstance(error, OperationFailure) else "W010"
        found.append(message(id, problem=collection.without_secrets(errors.explain(error))))
    return found


def _check_server(client: Any) -> Iterator[checks.CheckMessage]:
    with pymongo.timeout(collection.timeout(client)):
        server = client.server_info()
    if server["versionArray"] < OLDEST_SERVER:
        yield message("E006", version=server["version"])
        return
    for index in run(indexes.wrong()):
        yield message("W011", name=index.name, state=index.state)


def check_table(databases: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that no sessions of Django's own engine are left, if this engine is set."""
    if not apps.is_installed("django.contrib.sessions") or not settings.uses_engine():
        return []
    if settings.are_wrong() or conf.PREDECESSOR is not None:  # else they are being adopted
        return []
    model = apps.get_model("sessions", "Session")
    return [
        message("W016", table=model._meta.db_table, alias=alias)
        for alias in databases or ()
        if _has_rows(model, alias)
    ]


def _has_rows(model: Any, alias: str) -> bool:
    try:
        tables = connections[alias].introspection.table_names()
        return model._meta.db_table in tables and model.objects.using(alias).exists()
    except (ImproperlyConfigured, Error):  # no database, or one that is down: not ours to report
        return False
