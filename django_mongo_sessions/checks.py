"""What `manage.py check` says of the settings. Only the check tagged `database` does any I/O."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pymongo
from django.apps import apps
from django.conf import settings
from django.core import checks, mail
from django.core.checks.security import sessions as cookies
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from django_mongo_sessions import clients, connection, factories, indexes, probes, refusals, uris
from django_mongo_sessions.conf import KEYS, conf
from django_mongo_sessions.driving import drive
from django_mongo_sessions.findings import PATIENCE, check_apps, found
from django_mongo_sessions.middleware import SessionMiddleware

MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"
OLDEST_SERVER = [4, 4]


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """Judge MONGO_SESSIONS, and the client that it makes. Nothing connects."""
    try:
        faults = list(conf.faults())
    except ImproperlyConfigured as error:
        return [found("E001", problem=error)]
    if faults:
        ids = ["E003" if fault.key in KEYS else "E002" for fault in faults]
        return [found(id, **fault._asdict()) for id, fault in zip(ids, faults, strict=True)]
    return list(_judge())


def _judge() -> Iterator[checks.CheckMessage]:
    yield from _judge_client_settings()
    if (interval := conf.TOUCH_INTERVAL) is not None:
        if interval >= settings.SESSION_COOKIE_AGE:
            yield found("E009", interval=interval, age=settings.SESSION_COOKIE_AGE)
        if not any(_is_middleware(path, SessionMiddleware) for path in settings.MIDDLEWARE):
            yield found("W015")


def _judge_client_settings() -> Iterator[checks.CheckMessage]:
    for setting in ("CLIENT", "ASYNC_CLIENT"):
        try:
            connection.factory(setting)
        except ImproperlyConfigured as error:
            yield found("E003", key=setting, problem="cannot be used", remedy=str(error))
    if connection.is_mock():
        # Django's test runner sets DEBUG to False; its mark is the outbox.
        if not settings.DEBUG and not hasattr(mail, "outbox"):
            yield found("W002")
    elif conf.CLIENT is not None:  # which is not asked for before it is needed
        yield from _judge_timeout(conf.TIMEOUT)
        if conf.ASYNC == "native" and not connection.has_async():
            yield found("W014")
    else:
        if conf.ASYNC_CLIENT is not None:
            yield found("W007")
        yield from _judge_client()


def _judge_client() -> Iterator[checks.CheckMessage]:
    with warnings.catch_warnings(record=True) as ignored:
        warnings.simplefilter("always")
        try:
            client = connection.made(MongoClient)
        except ImproperlyConfigured as error:
            yield found("E004", problem=error)
            return
    client.close()
    for warning in ignored:
        yield found("W009", problem=connection.without_secrets(str(warning.message)))
    if client.write_concern.document.get("w") == 0:
        yield found("E005")
    yield from _judge_timeout(connection.timeout(client) or math.inf)
    yield from _judge_database(client)


def _judge_database(client: Any) -> Iterator[checks.CheckMessage]:
    if conf.DATABASE is None:
        try:
            client.get_default_database()
        except ConfigurationError:
            yield found("W003")


def _judge_timeout(seconds: float) -> Iterator[checks.CheckMessage]:
    if seconds > PATIENCE:
        yield found("W004", seconds=seconds)


def _are_settings_wrong() -> bool:
    """Return whether `check_settings` has said enough, so that other checks need not try."""
    return any(message.is_serious() for message in check_settings())


def check_tls(**kwargs: Any) -> list[checks.CheckMessage]:
    """Ask for TLS on the way to another machine. For `check --deploy`."""
    if _are_settings_wrong() or conf.CLIENT is not None or connection.is_mock():
        return []
    if not uris.is_local(conf.URI) and not uris.has_tls(conf.URI, conf.CLIENT_OPTIONS):
        return [found("W008")]
    return []


def check_serializer(**kwargs: Any) -> list[checks.CheckMessage]:
    """Find out whether SESSION_SERIALIZER unpickles, by a harmless pickle, and whether what it
    makes of a dict is always the same.
    """
    try:
        serializer = import_string(settings.SESSION_SERIALIZER)
    except ImportError as error:
        return [found("E007", problem=error)]
    if not callable(serializer):
        return [found("E007", problem=f"it names a {type(serializer).__name__}, which is no class")]
    wrong = {"W001": probes.unpickles, "W013": probes.varies}
    return [found(id) for id, is_so in wrong.items() if is_so(serializer)]


def check_cookies(**kwargs: Any) -> list[checks.CheckMessage]:
    """Say what Django says of the cookie's flags, also where a subclass of its middleware serves.

    Django knows its middleware by its path alone. Where `django.contrib.sessions` is installed it
    says the same on that ground. For `check --deploy`.
    """
    if MIDDLEWARE in settings.MIDDLEWARE or apps.is_installed("django.contrib.sessions"):
        return []
    djangos = import_string(MIDDLEWARE)
    subclasses = [path for path in settings.MIDDLEWARE if _is_middleware(path, djangos)]
    if not subclasses:
        return []
    flags = [
        (cookies.W011, settings.SESSION_COOKIE_SECURE),
        (cookies.W014, settings.SESSION_COOKIE_HTTPONLY),
    ]
    return [
        checks.Warning(warning.msg.replace(MIDDLEWARE, subclasses[0]), id=warning.id)
        for warning, is_set in flags
        if is_set is not True
    ]


def _is_middleware(path: str, kind: type) -> bool:
    try:
        middleware = import_string(path)
    except ImportError:  # Django says so when it starts
        return False
    return isinstance(middleware, type) and issubclass(middleware, kind)


def check_server(databases: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Ask the server whether it answers, is new enough, and has the indexes."""
    if not databases or _are_settings_wrong() or connection.is_mock():
        return []
    said: list[checks.CheckMessage] = []
    try:
        client = clients.sessions().client
        if factories.is_mock(client):
            return []
        if conf.CLIENT is not None:  # which no other check has called
            said += _judge_database(client)
        said += _judge_server(client)
    except ImproperlyConfigured as error:
        said.append(found("E008", problem=error))
    except PyMongoError as error:
        id = "W012" if isinstance(error, OperationFailure) else "W010"
        said.append(found(id, problem=connection.without_secrets(refusals.reason(error))))
    return said


def _judge_server(client: Any) -> Iterator[checks.CheckMessage]:
    with pymongo.timeout(connection.timeout(client)):
        server = client.server_info()
    if server["versionArray"] < OLDEST_SERVER:
        yield found("E006", version=server["version"])
        return
    for index in drive(indexes.lacking()):
        yield found("W011", name=index.name, state=index.state)


def register() -> None:
    """Bind the checks to Django's."""
    for check in (check_settings, check_serializer, check_apps):
        checks.register(check)
    for check in (check_tls, check_cookies):
        checks.register(check, checks.Tags.security, deploy=True)
    checks.register(check_server, checks.Tags.database)
