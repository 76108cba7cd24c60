"""From settings to a collection of sessions, on a client of our own or a shared one.

Nothing is sent here: clients connect when they are first used. No message shows a password.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from bson.codec_options import CodecOptions, DatetimeConversion
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, WriteConcern
from pymongo.driver_info import DriverInfo
from pymongo.errors import InvalidURI, PyMongoError
from pymongo.read_concern import ReadConcern

from django_mongo_sessions import __version__, factories, redaction, uris
from django_mongo_sessions.breaker import PROBE_INTERVAL, Breaker
from django_mongo_sessions.conf import conf
from django_mongo_sessions.drivers import Gate, Reach
from django_mongo_sessions.findings import found

logger = logging.getLogger("django_mongo_sessions")

Kind = type[MongoClient[Any]] | type[AsyncMongoClient[Any]]


_DISTRIBUTION = "django-mongodb-sessions"
_DEFAULTS = {
    "appname": _DISTRIBUTION,
    "connectTimeoutMS": 3000,
    # How soon the client knows that a server is away, or back; by default it is ten seconds.
    "heartbeatFrequencyMS": int(PROBE_INTERVAL * 1000),
    "serverSelectionTimeoutMS": 3000,
    "tz_aware": True,
}
_CODEC_OPTIONS = {
    "document_class": dict,
    "tz_aware": True,
    # What does not fit Python's types arrives as something else, and so is seen to be wrong,
    # instead of failing in the driver.
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    "unicode_decode_error_handler": "replace",
}
_ESCAPE = (
    "The user name and the password must be percent-escaped, each by urllib.parse.quote_plus()."
)
# What PyMongo raises for a URI and options that it refuses.
_REFUSALS = (PyMongoError, TypeError, ValueError, OSError)


def reach(kind: Kind) -> Reach:
    """Return the collection for blocking or awaiting calls, on the project's client or on one of
    our own. Raises ImproperlyConfigured where the settings do not allow it.
    """
    for fault in conf.faults():
        raise ImproperlyConfigured(f"MONGO_SESSIONS[{fault.key!r}] {fault.problem}. {fault.remedy}")
    _mention_the_app()
    redaction.redact_commands(conf.COLLECTION)
    setting = "ASYNC_CLIENT" if issubclass(kind, AsyncMongoClient) else "CLIENT"
    make = factory(setting)
    if make is not None:
        client = factories.called(setting, make, kind)
    else:
        client = factories.mock() if is_mock() else made(kind)
    sessions, seconds = _sessions(client)
    gate = Gate() if factories.is_mock(client) else Breaker(client, timeout(client))
    return Reach(sessions, seconds, make is None, gate)


@cache
def _mention_the_app() -> None:
    """Say once per process that the app is missing: where it is, no check can.

    A site works without it, so that it is a warning to those alone who are at work on one.
    """
    if apps.ready and not apps.is_installed("django_mongo_sessions"):
        said = found("W005")
        if not said.is_silenced():
            level = logging.WARNING if conf.DEBUG else logging.INFO
            logger.log(level, "%s %s Or silence %s.", said.msg, said.hint, said.id)


def is_mock() -> bool:
    """Return whether the settings ask for mongomock."""
    return conf.CLIENT is None and conf.URI.startswith("mongomock://")


def has_async() -> bool:
    """Return whether there can be an asynchronous client: a shared CLIENT needs an ASYNC_CLIENT."""
    return conf.ASYNC_CLIENT is not None or (conf.CLIENT is None and not is_mock())


# Clients


def made(kind: Any) -> Any:
    """Make a client; our defaults give way to the URI's options and to CLIENT_OPTIONS."""
    try:
        if uris.may_hold_half_a_password(conf.URI):
            raise InvalidURI
        return _make(kind, conf.URI)
    except _REFUSALS as error:
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS: PyMongo refuses the URI or CLIENT_OPTIONS. {_reason(kind, error)}"
        ) from None


def _make(kind: Any, uri: str) -> Any:
    named = {name.lower() for name in (*uris.options(uri), *conf.CLIENT_OPTIONS)}
    defaults = dict(_DEFAULTS)
    if conf.ASYNC == "native" and issubclass(kind, AsyncMongoClient):
        # A loop may be short, and PyMongo leaves a connection that is cut short as it is opened to
        # the garbage collector. This makes do without the one that opens in the background.
        defaults["serverMonitoringMode"] = "poll"
    options = {name: value for name, value in defaults.items() if name.lower() not in named}
    options["driver"] = DriverInfo(_DISTRIBUTION, __version__)
    # Whoever needs the client connects it, at once; `manage.py check` only looks at it.
    client = kind(uri, **{**options, **conf.CLIENT_OPTIONS, "connect": False})
    client.get_default_database("django")  # refuses names that the URI's parser lets through
    return client


def _reason(kind: Any, error: Exception) -> str:
    """Return why PyMongo refuses or should, but for credentials, of which it may quote a part."""
    bare = uris.without_credentials(conf.URI)
    if bare != conf.URI:
        try:
            _make(kind, bare)
        except _REFUSALS as same:
            error = same
        else:
            return _ESCAPE
    return without_secrets(str(error))


def without_secrets(text: str) -> str:
    """Return a text of PyMongo's as it may be shown."""
    return uris.without_secrets(text, conf.URI, conf.CLIENT_OPTIONS)


def timeout(client: Any) -> float:
    """Return the seconds that one operation may take: the client's own, where 0 is no limit."""
    return conf.TIMEOUT if client.options.timeout is None else client.options.timeout


def factory(setting: str) -> Callable[[], Any] | None:
    """Return what CLIENT or ASYNC_CLIENT names; raise ImproperlyConfigured if that is no use."""
    return factories.named(setting, getattr(conf, setting))


# The collection


def _sessions(client: Any) -> tuple[Any, float | None]:
    """Return the collection as every verb needs it, and the deadline of one operation."""
    if factories.is_mock(client):
        path = urlsplit(conf.URI).path.strip("/") if is_mock() else ""
        database = client[conf.DATABASE or path or "django"]
        return database[conf.COLLECTION].with_options(CodecOptions(tz_aware=True)), None
    if conf.DATABASE is None:
        database = client.get_default_database("django")
    else:
        database = client[conf.DATABASE]
    concern = client.write_concern.document
    if concern.get("w") == 0:
        raise ImproperlyConfigured(
            "MONGO_SESSIONS: the client's write concern is w=0, so that lost writes and sign-outs "
            "would go unnoticed. Remove w=0 from the URI and from the client's options."
        )
    collection = database.get_collection(
        conf.COLLECTION,
        codec_options=client.codec_options.with_options(**_CODEC_OPTIONS),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=WriteConcern(**{"w": "majority", **concern}),
    )
    return collection, None if client.options.timeout is not None else conf.TIMEOUT
