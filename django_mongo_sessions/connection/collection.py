"""From settings to the collection of sessions, on our own client or a shared one.

Nothing is sent here: a client connects when it is first used. No message shows a password.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, WriteConcern
from pymongo.driver_info import DriverInfo
from pymongo.errors import InvalidURI, PyMongoError
from pymongo.read_concern import ReadConcern

from django_mongo_sessions import __version__
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import errors, logs, testruns, uris
from django_mongo_sessions.connection.addresses import Address, address
from django_mongo_sessions.connection.breaker import OPEN, PROBE_INTERVAL, Breaker, Gate

logger = logging.getLogger("django_mongo_sessions")

ClientClass = type[MongoClient[Any]] | type[AsyncMongoClient[Any]]


class SessionCollection(NamedTuple):
    """The collection of sessions, and how it may be used."""

    collection: Any
    timeout: float | None = None  # seconds for one operation; None leaves it to the client
    owned: bool = False  # whether we made its client, and so close it
    gate: Gate = OPEN
    # Takes this collection once the owner of its shared client has closed that, and returns the
    # one that takes its place; awaitable if the collection is. None if nothing can take its place.
    reopen: Callable[[Any], Any] | None = None
    # What waits for calls that are under way, by what they do; None if nothing waits.
    queues: dict[type, Any] | None = None

    @property
    def client(self) -> Any:
        """The client behind the collection."""
        return self.collection.database.client


_DISTRIBUTION = "django-mongodb-sessions"
_DEFAULTS = {
    "appname": _DISTRIBUTION,
    "connectTimeoutMS": 3000,
    # How soon the client notices that a server is down, or back; PyMongo's default is ten seconds.
    "heartbeatFrequencyMS": int(PROBE_INTERVAL * 1000),
    "serverSelectionTimeoutMS": 3000,
    "tz_aware": True,
}
_CODEC_OPTIONS = {
    "document_class": dict,
    "tz_aware": True,
    "tzinfo": None,  # UTC, whatever a shared client wants
    # A value that does not fit Python's types arrives as another type, and the document is
    # rejected, instead of an error in the driver.
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    "unicode_decode_error_handler": "replace",
}
_ESCAPE = (
    "The user name and the password must be percent-escaped, each by urllib.parse.quote_plus()."
)
# What PyMongo raises for a URI and options that it rejects.
_REJECTIONS = (PyMongoError, TypeError, ValueError, OSError)


def make_collection(kind: ClientClass) -> SessionCollection:
    """Return the collection for blocking or awaiting calls, on a shared client or a new one.

    Raises ImproperlyConfigured if the settings are wrong.
    """
    for fault in conf.faults():
        raise ImproperlyConfigured(f"MONGO_SESSIONS[{fault.key!r}] {fault.problem}. {fault.remedy}")
    logs.log_outages_once()
    client, owned = _open(kind)
    # Once, since another thread may begin or end a test run: what is dropped must be a test's.
    test_run = testruns.environment()
    collection, seconds = _collection(client, test_run is not None)
    database, name = collection.database.name, collection.name
    logs.redact_commands(database, name)
    if is_mock(client):
        return SessionCollection(collection, seconds, owned)
    gate = Breaker(client, timeout(client))
    if test_run is not None:
        servers = frozenset(client.topology_description.server_descriptions())
        drop = testruns.Drop(partial(_drop, conf.given, database, name), gate.got_no_reply)
        testruns.drop_at_end(test_run, (servers, database, name), drop)
    queues: dict[type, Any] | None = {} if conf.COALESCE else None
    return SessionCollection(collection, seconds, owned, gate, queues=queues)


def _open(kind: ClientClass) -> tuple[Any, bool]:
    """Return a client, and whether it is ours."""
    setting = "ASYNC_CLIENT" if issubclass(kind, AsyncMongoClient) else "CLIENT"
    factory = import_factory(setting)
    if factory is not None:
        return client_from_factory(setting, factory, kind), False
    return _make_mock() if uses_mock() else make_client(kind), True


def _drop(given: Mapping[str, Any], database: str, name: str) -> None:
    """Drop a collection that a test run has used, with a client of the settings that it had."""
    from django.test import override_settings

    with override_settings(MONGO_SESSIONS=given):
        try:
            client, owned = _open(MongoClient)
            with pymongo.timeout(timeout(client)):
                try:
                    client[database].drop_collection(name)
                finally:
                    if owned:
                        client.close()
        except Exception as error:  # of PyMongo's, or of the site's own code
            logger.warning(
                "The database %r of a test run was not dropped: %s",
                database,
                without_secrets(errors.without_topology(error)),
            )


def uses_mock() -> bool:
    """Return whether the settings ask for mongomock."""
    is_ours = conf.CLIENT is None and conf.DATABASE_ALIAS is None
    return is_ours and conf.URI.startswith("mongomock://")


def has_async() -> bool:
    """Return whether there can be an asynchronous client: a shared CLIENT needs an ASYNC_CLIENT."""
    return conf.ASYNC_CLIENT is not None or (conf.CLIENT is None and not uses_mock())


# Clients of the project's own


def import_factory(setting: str) -> Callable[[], Any] | None:
    """Return the callable that CLIENT or ASYNC_CLIENT names, or None if it is not set.

    Raises ImproperlyConfigured if it cannot be imported, or cannot be called for a client.
    """
    given = getattr(conf, setting)
    if isinstance(given, str):
        try:
            given = import_string(given)
        except ImportError as error:
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS[{setting!r}] cannot be imported: {error}"
            ) from error
    elif given is None:
        return None
    # PyMongo's collections define __call__, only to raise a TypeError.
    if not callable(given) or _package(given) in ("pymongo", "mongomock"):
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS[{setting!r}] names a {type(given).__name__}. It must name a callable "
            "that returns a client, such as a function that returns this one."
        )
    return given  # type: ignore[no-any-return]


def client_from_factory(setting: str, factory: Callable[[], Any], kind: type) -> Any:
    """Return the client that a setting's callable returns.

    Raises ImproperlyConfigured if it is neither of this class nor mongomock's.
    """
    client = factory()
    if not isinstance(client, kind) and not is_mock(client):
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS[{setting!r}] returned a {type(client).__name__}. "
            f"It must return a {kind.__name__}."
        )
    return client


def is_mock(client: Any) -> bool:
    """Return whether a client, shared or not, is mongomock's."""
    return _package(client) == "mongomock"


def _package(thing: Any) -> str:
    return type(thing).__module__.partition(".")[0]


def _make_mock() -> Any:
    """Make a client of mongomock; raise ImproperlyConfigured if it is not installed."""
    try:
        import mongomock
    except ImportError as error:
        raise ImproperlyConfigured(
            "MONGO_SESSIONS['URI'] is mongomock://, and mongomock is not installed. "
            "Install it with: python -m pip install mongomock"
        ) from error
    return mongomock.MongoClient()


# Clients of ours


def make_client(kind: Any) -> Any:
    """Make a client. The URI's options and CLIENT_OPTIONS take precedence over our defaults."""
    given = address()
    try:
        if uris.may_hold_half_a_password(given.uri):
            raise InvalidURI
        return _make(kind, given)
    except _REJECTIONS as error:
        source = "the URI or CLIENT_OPTIONS"
        if conf.DATABASE_ALIAS is not None:
            source = f"HOST, OPTIONS or another value of DATABASES[{conf.DATABASE_ALIAS!r}]"
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS: PyMongo rejects {source}. {_reason(kind, given, error)}"
        ) from None


def _make(kind: Any, given: Address) -> Any:
    named = {name.lower() for name in (*uris.options(given.uri), *given.options)}
    defaults = dict(_DEFAULTS)
    if conf.ASYNC == "native" and issubclass(kind, AsyncMongoClient):
        # A loop may be short, and PyMongo leaves a connection that is cut while it is opened to
        # the garbage collector. Polling needs no connection in the background.
        defaults["serverMonitoringMode"] = "poll"
    options = {name: value for name, value in defaults.items() if name.lower() not in named}
    options["driver"] = DriverInfo(_DISTRIBUTION, __version__)
    # The first operation connects; `manage.py check` only inspects the client.
    client = kind(given.uri, **{**options, **given.options, "connect": False})
    client.get_default_database("django")  # rejects names that the URI's parser accepts
    return client


def _reason(kind: Any, given: Address, error: Exception) -> str:
    """Return why PyMongo rejects the URI, without quoting a part of the credentials."""
    bare = uris.without_credentials(given.uri)
    if bare != given.uri:
        try:
            _make(kind, given._replace(uri=bare))
        except _REJECTIONS as same:
            error = same
        else:
            return _ESCAPE
    return without_secrets(str(error))


def without_secrets(text: str) -> str:
    """Return a message of PyMongo's without the secrets of the settings."""
    given = address()
    return uris.without_secrets(text, given.uri, given.options)


def timeout(client: Any) -> float:
    """Return the seconds that one operation may take: the client's own; 0 means no limit."""
    return conf.TIMEOUT if client.options.timeout is None else client.options.timeout


# The collection


def _collection(client: Any, is_for_tests: bool) -> tuple[Any, float | None]:
    """Return the collection with the options that the engine needs, and its deadline in seconds."""
    if is_mock(client):
        path = urlsplit(conf.URI).path.strip("/") if uses_mock() else ""
        database = client[conf.DATABASE or path or "django"]
        return database[conf.COLLECTION].with_options(CodecOptions(tz_aware=True)), None
    named = address()
    live = named.database or client.get_default_database("django").name
    database = client[testruns.database(live, named.test_database) if is_for_tests else live]
    concern = client.write_concern.document
    if concern.get("w") == 0:
        raise ImproperlyConfigured(
            "MONGO_SESSIONS: the client's write concern is w=0, so lost writes and lost sign-outs "
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
