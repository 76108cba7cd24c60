"""Who is measured: how each is set up, and what it promises of a write when it has answered.

The durability of each is the server's default, or the one that the engine sets; nobody's is
weakened or strengthened for the comparison, except where a contender's title says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import ALL, OWN_CPU, TASKS
from benchmarks.servers import Addresses

DJANGO_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"
# What the engine is measured with in whole requests.
OUR_MIDDLEWARE = "django_mongo_sessions.middleware.SessionMiddleware"

_DATABASE = "benchmarks"

Settings = Callable[[Addresses], dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """A way to keep sessions."""

    name: str
    title: str
    durability: str
    settings: Settings
    cases: list[str] = field(default_factory=lambda: ALL)
    waits: bool = False  # whether a write is on the disk when it is answered
    cases_class: str = "benchmarks.cases.django.DjangoCases"
    middleware: str = DJANGO_MIDDLEWARE


# The settings of each


def _ours(name: str, **options: Any) -> Settings:
    """The engine, in a collection of that name, with more options of its client."""

    def settings(addresses: Addresses) -> dict[str, Any]:
        return {
            "SESSION_ENGINE": "django_mongo_sessions.backends.mongodb",
            "MONGO_SESSIONS": {
                "URI": addresses.mongodb,
                "DATABASE": _DATABASE,
                "COLLECTION": name,
                "CLIENT_OPTIONS": options,
            },
        }

    return settings


def _db(database: Callable[[Addresses], dict[str, Any]]) -> Settings:
    """Django's `db`, in a database."""
    return lambda addresses: {
        "SESSION_ENGINE": "django.contrib.sessions.backends.db",
        "DATABASES": {"default": database(addresses)},
    }


def _postgresql(addresses: Addresses, pool: bool = False) -> dict[str, Any]:
    """A connection that stays open, or a pool of them."""
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": addresses.postgresql,
    }
    # Django allows one of the two. Its documentation says the pool for ASGI, whose requests each
    # have a thread, and so a connection, of their own.
    return {**database, **({"OPTIONS": {"pool": True}} if pool else {"CONN_MAX_AGE": None})}


def _sqlite(addresses: Addresses) -> dict[str, Any]:
    """A file that is written ahead of, and waited for by who finds it locked."""
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
    """django-mongodb-backend, as its documentation has it."""
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
    """Django's `cached_db`: Redis before PostgreSQL."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cached_db",
        "DATABASES": {"default": _postgresql(addresses)},
        "CACHES": _redis(addresses, 0),
    }


def _cache(addresses: Addresses) -> dict[str, Any]:
    """Django's `cache`, in Redis."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "CACHES": _redis(addresses, 1),
    }


def _file(addresses: Addresses) -> dict[str, Any]:
    """Django's `file`."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.file",
        "SESSION_FILE_PATH": addresses.folder,
    }


# The contenders

_JOURNALED = "w=majority, on one mongod with the journal's fsync"
_WAL = "fsync of the log at each commit"
_IN_MEMORY = "w=1, the journal's fsync within 100 ms"
OURS, RAW, POSTGRESQL, CACHE, BACKEND = "ours", "pymongo", "db-postgresql", "cache-redis", "backend"

CONTENDERS = [
    Contender(
        OURS,
        "django_mongo_sessions",
        _JOURNALED,
        _ours("sessions"),
        [*ALL, OWN_CPU],
        waits=True,
        cases_class="benchmarks.cases.ours.OurCases",
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        "ours-journal",
        "django_mongo_sessions, j=True",
        "w=majority, j=True: with the journal's fsync",
        _ours("journaled", journal=True),
        waits=True,
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        "ours-w1",
        "django_mongo_sessions, w=1",
        f"{_IN_MEMORY}; deletes with it",
        _ours("acknowledged", w=1),
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        RAW,
        "PyMongo alone: the same commands",
        _JOURNALED,
        _ours("raw"),
        ["load", "save", "load-change-save"],
        waits=True,
        cases_class="benchmarks.cases.pymongo.PyMongoCases",
    ),
    Contender(POSTGRESQL, "Django db, PostgreSQL", _WAL, _db(_postgresql), waits=True),
    Contender(
        "db-postgresql-pool",
        "Django db, PostgreSQL, psycopg's pool",
        _WAL,
        _db(lambda addresses: _postgresql(addresses, pool=True)),
        ["ASGI request", *TASKS],
        waits=True,
    ),
    Contender("db-sqlite", "Django db, SQLite in WAL mode", _WAL, _db(_sqlite), waits=True),
    Contender(
        BACKEND,
        "Django db, django-mongodb-backend",
        _IN_MEMORY,
        _db(_mongodb_backend),
    ),
    Contender(
        "cached-db-redis",
        "Django cached_db, Redis and PostgreSQL",
        f"{_WAL}; of the cache none",
        _cached_db,
        waits=True,
    ),
    Contender(CACHE, "Django cache, Redis", "none: lost with Redis's process", _cache),
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
# The engine again, each on a collection of another number of sessions.
GROWTH = [
    Contender(
        f"growth-{number}",
        f"django_mongo_sessions, collection {number}",
        _JOURNALED,
        _ours(f"growth_{number}"),
        ["load", "save"],
        waits=True,
        cases_class="benchmarks.cases.growth.GrowthCases",
        middleware=OUR_MIDDLEWARE,
    )
    for number in range(3)
]
# The engine again, with somebody who listens to what it sends.
COUNTED = Contender(
    "counted",
    "django_mongo_sessions",
    _JOURNALED,
    _ours("counted"),
    waits=True,
    cases_class="benchmarks.cases.counted.CountedCases",
    middleware=OUR_MIDDLEWARE,
)
BY_NAME = {contender.name: contender for contender in [*CONTENDERS, *GROWTH, COUNTED]}
