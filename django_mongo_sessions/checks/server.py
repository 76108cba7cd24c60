"""Check the server, and Django's table of sessions: what connects, for `check --database`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_sessions.checks import settings
from django_mongo_sessions.checks.messages import message
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import clients, collection, errors
from django_mongo_sessions.exceptions import KeysUnavailable
from django_mongo_sessions.mongo import bulk, indexes, operations
from django_mongo_sessions.mongo.runner import run, single
from django_mongo_sessions.storage import dates, keyring

OLDEST_SERVER = [4, 4]
_SAMPLE = 1_000  # documents that are read to find out how they are encrypted


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
        found += _check_server()
        found += _check_encryption()
    except ImproperlyConfigured as error:
        found.append(message("E008", problem=error))
    except PyMongoError as error:
        id = "W012" if isinstance(error, OperationFailure) else "W010"
        found.append(message(id, problem=collection.without_secrets(errors.explain(error))))
    return found


def _check_server() -> Iterator[checks.CheckMessage]:
    server = run(single(operations.server_info()))  # so `migrate` need not wait for it again
    if server["versionArray"] < OLDEST_SERVER:
        yield message("E006", version=server["version"])
        return
    for index in run(indexes.wrong()):
        yield message("W011", name=index.name, state=index.state)


def _check_encryption() -> Iterator[checks.CheckMessage]:
    """Check that what is stored opens, as far as a sample of the sessions shows."""
    mode = conf.encryption
    try:
        known = keyring.source().get().ids() if mode else []
    except (ImproperlyConfigured, KeysUnavailable) as error:
        yield message("E016", problem=error)
        return
    counts = run(single(bulk.count_by_key(dates.utc_now(), _SAMPLE)))
    plain = counts.pop(None, 0)
    if mode == "only" and plain:
        yield message(
            "E018",
            problem=f"{plain:,} are not encrypted",
            remedy='Set ENCRYPTION to "transition" and run `manage.py mongosessions encrypt`.',
        )
    if mode is None and counts:
        yield message(
            "E018",
            problem=f"{sum(counts.values()):,} are encrypted",
            remedy='Set ENCRYPTION_KEYS again. ENCRYPTION "prepare" stores no more of them.',
        )
    elif unknown := sorted(str(name) for name in counts if name not in known):
        yield message("W025", ids=", ".join(unknown))


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
