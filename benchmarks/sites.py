"""How a site is set up for each contender: the settings that are its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.servers import Addresses

Settings = Callable[[Addresses], dict[str, Any]]
_DATABASE = "benchmarks"


def ours(name: str, **options: Any) -> Settings:
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


def db(database: Callable[[Addresses], dict[str, Any]]) -> Settings:
    """Django's `db`, in a database."""
    return lambda addresses: {
        "SESSION_ENGINE": "django.contrib.sessions.backends.db",
        "DATABASES": {"default": database(addresses)},
    }


def postgresql(addresses: Addresses, pool: bool = False) -> dict[str, Any]:
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


def sqlite(addresses: Addresses) -> dict[str, Any]:
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


def mongodb_backend(addresses: Addresses) -> dict[str, Any]:
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


def cached_db(addresses: Addresses) -> dict[str, Any]:
    """Django's `cached_db`: Redis before PostgreSQL."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cached_db",
        "DATABASES": {"default": postgresql(addresses)},
        "CACHES": _redis(addresses, 0),
    }


def cache(addresses: Addresses) -> dict[str, Any]:
    """Django's `cache`, in Redis."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "CACHES": _redis(addresses, 1),
    }


def file(addresses: Addresses) -> dict[str, Any]:
    """Django's `file`."""
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.file",
        "SESSION_FILE_PATH": addresses.folder,
    }
