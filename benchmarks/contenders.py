"""Who is measured: how each is set up, and what it promises of a write when it has answered.

The durability of each is the server's default, or the one that the engine sets; nobody's is
weakened or strengthened for the comparison, except where a contender's title says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks import listener, sites

DJANGO_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"
# What the engine is measured with in whole requests.
OUR_MIDDLEWARE = "django_mongo_sessions.middleware.SessionMiddleware"

VERBS = ["load", "save", "load-change-save", "first save", "login", "logout", "unchanged save"]
REQUESTS = ["WSGI request", "ASGI request"]
TASKS = ["1 task", "8 tasks", "64 tasks"]
THREADS = ["1 thread", "8 threads"]
# Of the engine's own time, with MongoDB and PyMongo taken away.
OWN_CPU = "own CPU"
ALL = [*VERBS, *REQUESTS, *TASKS, *THREADS]


@dataclass(frozen=True)
class Contender:
    """A way to keep sessions."""

    name: str
    title: str
    durability: str
    settings: sites.Settings
    cases: list[str] = field(default_factory=lambda: ALL)
    waits: bool = False  # whether a write is on the disk when it is answered
    stores: str = "benchmarks.django_cases"  # the module whose `Cases` runs them
    middleware: str = DJANGO_MIDDLEWARE


_JOURNALED = "w=majority, on one mongod with the journal's fsync"
_WAL = "fsync of the log at each commit"
_IN_MEMORY = "w=1, the journal's fsync within 100 ms"
OURS, RAW, POSTGRESQL, CACHE, BACKEND = "ours", "pymongo", "db-postgresql", "cache-redis", "backend"

CONTENDERS = [
    Contender(
        OURS,
        "django_mongo_sessions",
        _JOURNALED,
        sites.ours("sessions"),
        [*ALL, OWN_CPU],
        waits=True,
        stores="benchmarks.our_cases",
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        "ours-journal",
        "django_mongo_sessions, j=True",
        "w=majority, j=True: with the journal's fsync",
        sites.ours("journaled", journal=True),
        waits=True,
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        "ours-w1",
        "django_mongo_sessions, w=1",
        f"{_IN_MEMORY}; deletes with it",
        sites.ours("acknowledged", w=1),
        middleware=OUR_MIDDLEWARE,
    ),
    Contender(
        RAW,
        "PyMongo alone: the same commands",
        _JOURNALED,
        sites.ours("raw"),
        ["load", "save", "load-change-save"],
        waits=True,
        stores="benchmarks.pymongo_cases",
    ),
    Contender(POSTGRESQL, "Django db, PostgreSQL", _WAL, sites.db(sites.postgresql), waits=True),
    Contender(
        "db-postgresql-pool",
        "Django db, PostgreSQL, psycopg's pool",
        _WAL,
        sites.db(lambda addresses: sites.postgresql(addresses, pool=True)),
        ["ASGI request", *TASKS],
        waits=True,
    ),
    Contender(
        "db-sqlite", "Django db, SQLite in WAL mode", _WAL, sites.db(sites.sqlite), waits=True
    ),
    Contender(
        BACKEND,
        "Django db, django-mongodb-backend",
        _IN_MEMORY,
        sites.db(sites.mongodb_backend),
    ),
    Contender(
        "cached-db-redis",
        "Django cached_db, Redis and PostgreSQL",
        f"{_WAL}; of the cache none",
        sites.cached_db,
        waits=True,
    ),
    Contender(CACHE, "Django cache, Redis", "none: lost with Redis's process", sites.cache),
    Contender("file", "Django file", "none: no fsync", sites.file),
    Contender(
        "flask-session",
        "Flask-Session, MongoDB",
        _IN_MEMORY,
        lambda addresses: {"MONGODB": addresses.mongodb},
        ["load", "load-change-save"],
        stores="benchmarks.flask_cases",
    ),
]
# The engine again, each on a collection of another number of sessions.
GROWTH = [
    Contender(
        f"growth-{number}",
        f"django_mongo_sessions, collection {number}",
        _JOURNALED,
        sites.ours(f"growth_{number}"),
        ["load", "save"],
        waits=True,
        stores="benchmarks.growth_cases",
        middleware=OUR_MIDDLEWARE,
    )
    for number in range(3)
]
# The engine again, with somebody who listens to what it sends.
COUNTED = Contender(
    "counted",
    "django_mongo_sessions",
    _JOURNALED,
    sites.ours("counted", event_listeners=[listener.COMMANDS]),
    waits=True,
    stores="benchmarks.counted_cases",
    middleware=OUR_MIDDLEWARE,
)
BY_NAME = {contender.name: contender for contender in [*CONTENDERS, *GROWTH, COUNTED]}
