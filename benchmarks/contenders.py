"""The contenders: the settings of each, and what it guarantees once a write has returned.

The durability is the server's default, or what the session engine sets. None is weakened or
strengthened for the comparison, unless the contender's title says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import ALL, GROWN, OWN_CPU, TASKS, THREADS, VIEWS
from benchmarks.servers import Addresses
from django_mongo_sessions.conf import KEYS

DJANGO_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"
OUR_MIDDLEWARE = "django_mongo_sessions.middleware.SessionMiddleware"

_DATABASE = "benchmarks"

Settings = Callable[[Addresses], dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """A way to store sessions."""

    name: str
    title: str
    durability: str
    settings: Settings
    cases: list[str] = field(default_factory=lambda: ALL)
    durable: bool = False  # a write is on the disk before it returns
    cases_class: str = "benchmarks.cases.django.DjangoCases"
    middleware: str = DJANGO_MIDDLEWARE


# Settings


def _ours(name: str, own: Mapping[str, Any] | None = None, **options: Any) -> Settings:
    """Return the settings for this engine, with its own collection, keys and client options."""

    def settings(addresses: Addresses) -> dict[str, Any]:
        return {
            "SESSION_ENGINE": "django_mongo_sessions.backends.mongodb",
            "MONGO_SESSIONS": {
                "URI": addresses.mongodb,
                "DATABASE": _DATABASE,
                "COLLECTION": name,
                "CLIENT_OPTIONS": options,
                **(own or {}),
            },
        }

    return settings


def _db(database: Callable[[Addresses], dict[str, Any]]) -> Settings:
    """Return the settings for Django's `db` engine in this database."""
    return lambda addresses: {
        "SESSION_ENGINE": "django.contrib.sessions.backends.db",
        "DATABASES": {"default": database(addresses)},
    }


def _postgresql(addresses: Addresses, pool: bool = False) -> dict[str, Any]:
    """Return PostgreSQL's settings, with persistent connections or a pool."""
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": addresses.postgresql,
    }
    # Django does not allow both. Its documentation recommends a pool under ASGI, where each request
    # has a thread of its own, and so a connection of its own.
    return {**database, **({"OPTIONS": {"pool": True}} if pool else {"CONN_MAX_AGE": None})}


def _sqlite(addresses: Addresses) -> dict[str, Any]:
    """Return SQLite's settings: write-ahead logging, and a wait if another thread has the lock."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{addresses.folder}/sessions.sqlite3",
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    }


def _mongodb_backend(addresses: Addresses) -> dict[str, Any]:
    """Return the settings that the documentation of django-mongodb-backend recommends."""
    return {
        "ENGINE": "django_mongodb_backend",
        "HOST": addresses.mongodb,
        "NAME": f"{_DATABASE}_backend",
        "CONN_MAX_AGE": None,
    }


def _redis(addresses: Addresses, number: int) -> dict[str, Any]:
    return {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"{addresses.redis}/{number}",
        }
    }


def _cached_db(addresses: Addresses) -> dict[str, Any]:
    """Return the settings for Django's `cached_db` engine: Redis in front of PostgreSQL."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cached_db",
        "DATABASES": {"default": _postgresql(addresses)},
        "CACHES": _redis(addresses, 0),
    }


def _cache(addresses: Addresses) -> dict[str, Any]:
    """Return the settings for Django's `cache` engine in Redis."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "CACHES": _redis(addresses, 1),
    }


def _file(addresses: Addresses) -> dict[str, Any]:
    """Return the settings for Django's `file` engine."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.file",
        "SESSION_FILE_PATH": addresses.folder,
    }


# Contenders

_JOURNALED = "w=majority: on a single mongod, fsync of the journal"
_WAL = "fsync of the log at each commit"
_IN_MEMORY = "w=1: fsync of the journal within 100 ms"
OURS, ALONE, RAW, BACKEND = "ours", "ours-alone", "pymongo", "backend"
POSTGRESQL, POOL, CACHE = "db-postgresql", "db-postgresql-pool", "cache-redis"

_ONE_BY_ONE = Contender(
    ALONE,
    "django_mongo_sessions, COALESCE = False",
    _JOURNALED,
    _ours("alone", {"COALESCE": False}),
    [*TASKS, *THREADS, *VIEWS],
    durable=True,
    middleware=OUR_MIDDLEWARE,
)

CONTENDERS = [
    Contender(
        OURS,
        "django_mongo_sessions",
        _JOURNALED,
        _ours("sessions"),
        [*ALL, OWN_CPU, *VIEWS],
        durable=True,
        cases_class="benchmarks.cases.ours.OurCases",
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        "ours-journal",
        "django_mongo_sessions, j=True",
        "w=majority, j=True: fsync of the journal",
        _ours("journaled", journal=True),
        durable=True,
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        "ours-w1",
        "django_mongo_sessions, w=1",
        f"{_IN_MEMORY}, also for deletes",
        _ours("acknowledged", w=1),
        middleware=OUR_MIDDLEWARE,
    ),
    *([_ONE_BY_ONE] if "COALESCE" in KEYS else []),
    Contender(
        RAW,
        "PyMongo alone, one by one",
        _JOURNALED,
        _ours("raw"),
        ["load", "save", "load-change-save", *TASKS, *THREADS],
        durable=True,
        cases_class="benchmarks.cases.pymongo.PyMongoCases",
    ),
    Contender(POSTGRESQL, "Django db, PostgreSQL", _WAL, _db(_postgresql), durable=True),
    Contender(
        POOL,
        "Django db, PostgreSQL, psycopg's pool",
        _WAL,
        _db(lambda addresses: _postgresql(addresses, pool=True)),
        ["ASGI request", *TASKS, *VIEWS],
        durable=True,
    ),
    Contender("db-sqlite", "Django db, SQLite in WAL mode", _WAL, _db(_sqlite), durable=True),
    Contender(
        BACKEND,
        "Django db, django-mongodb-backend",
        _IN_MEMORY,
        _db(_mongodb_backend),
    ),
    Contender(
        "cached-db-redis",
        "Django cached_db, Redis and PostgreSQL",
        f"{_WAL}; none in the cache",
        _cached_db,
        durable=True,
    ),
    Contender(CACHE, "Django cache, Redis", "none: lost if Redis stops", _cache, [*ALL, *VIEWS]),
    Contender("file", "Django file", "none: no fsync", _file),
    Contender(
        "flask-session",
        "Flask-Session, MongoDB",
        _IN_MEMORY,
        lambda addresses: {"MONGODB": addresses.mongodb},
        ["load", "load-change-save"],
        cases_class="benchmarks.cases.flask.FlaskCases",
    ),
]
# The engine again, on three collections of different sizes.
GROWTH = [
    Contender(
        f"growth-{number}",
        f"django_mongo_sessions, collection {number}",
        _JOURNALED,
        _ours(f"growth_{number}"),
        GROWN,
        durable=True,
        cases_class="benchmarks.cases.growth.GrowthCases",
        middleware=OUR_MIDDLEWARE,
    )
    for number in range(3)
]
# The engine again, with its commands counted.
COUNTED = Contender(
    "counted",
    "django_mongo_sessions",
    _JOURNALED,
    _ours("counted"),
    durable=True,
    cases_class="benchmarks.cases.counted.CountedCases",
    middleware=OUR_MIDDLEWARE,
)
BY_NAME = {contender.name: contender for contender in [*CONTENDERS, *GROWTH, COUNTED]}
