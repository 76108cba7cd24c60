"""Which server, with which options: by URI and CLIENT_OPTIONS, or by an entry of DATABASES."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import testruns

# The databases' names in DATABASES by alias, from before a test runner could replace them.
_live_names: dict[str, str] = {}


def remember_live_names() -> None:
    """Keep the names of the databases in DATABASES. No test runner has replaced them yet."""
    if testruns.environment() is None:
        _live_names.update({alias: connections.settings[alias]["NAME"] for alias in connections})


class Address(NamedTuple):
    """What the engine makes one of its own clients from."""

    uri: str  # or a host
    options: Mapping[str, Any]  # PyMongo's keyword arguments, which take precedence over the URI's
    database: str | None  # its name, if it is not the URI's
    test_database: str | None = None  # its name in test runs, if it has one of its own


def address() -> Address:
    """Return the server, its options and the database that the settings name. Nothing connects.

    Raises ImproperlyConfigured if DATABASE_ALIAS names no database of django-mongodb-backend.
    """
    if conf.DATABASE_ALIAS is None:
        return Address(conf.URI, conf.CLIENT_OPTIONS, conf.DATABASE)
    connection = mongodb_backend(conf.DATABASE_ALIAS)
    try:
        options = dict(connection.get_connection_params())
    except ValueError as error:  # the port
        raise ImproperlyConfigured(f"DATABASES[{conf.DATABASE_ALIAS!r}]: {error}") from error
    # For fields of models, with a client of its own; no session has such a field.
    options.pop("auto_encryption_opts", None)
    entry = connection.settings_dict
    name = entry["NAME"]
    return Address(
        options.pop("host", None) or "localhost",
        {**options, **conf.CLIENT_OPTIONS},
        conf.DATABASE or name,
        None if conf.DATABASE else _test_name(conf.DATABASE_ALIAS, name, entry["TEST"]["NAME"]),
    )


def _test_name(alias: str, name: str, chosen: str | None) -> str | None:
    """Return the name for test runs of an entry of DATABASES, if it has one of its own.

    Test runners replace its name with that one, and number those of parallel processes. But a run
    of tests that need no database does not: the name is then still the site's, which may begin with
    "test_" too. If the site's name is not known, no name is taken for that of a test database.
    """
    live = _live_names.get(alias)
    if name == live:
        return None if chosen == live else chosen
    given = chosen or (None if live is None else f"{testruns.PREFIX}{live}")
    is_set_up = given is not None and re.fullmatch(re.escape(given) + r"(_\d+)?", name)
    return name if is_set_up else chosen


def mongodb_backend(alias: str) -> Any:
    """Return Django's connection of an alias, without connecting it.

    Raises ImproperlyConfigured if django-mongodb-backend is not its backend.
    """
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist as error:
        raise ImproperlyConfigured(f"MONGO_SESSIONS['DATABASE_ALIAS']: {error}") from error
    if connection.vendor != "mongodb":
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS['DATABASE_ALIAS'] is {alias!r}, whose database is "
            f"{connection.display_name}. It must be one of django-mongodb-backend."
        )
    return connection
