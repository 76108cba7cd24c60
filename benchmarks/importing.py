"""Import many sessions from PostgreSQL and from Redis, and watch the time and the memory.

`python -m benchmarks import` prints it. Each session has 400 bytes of JSON, and is read back
once it was stored. The process that imports uses one core. The servers have the others.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import django
from django.conf import settings

from benchmarks import payloads, servers
from testproject import mongod

TARGET = 4_000  # sessions a second
FLAT = 1.05  # times the memory that the process has after a tenth of the sessions
_SIZE = 400  # bytes of JSON
_KINDS = 1_000  # different contents
_DB = "django.contrib.sessions.backends.db"
_CACHE = "django.contrib.sessions.backends.cache"


class Result(NamedTuple):
    """How long an import took, in seconds, and the most memory that it used, in bytes."""

    source: str
    sessions: int
    seconds: float
    cpu_seconds: float
    early_memory: int  # after a tenth of the sessions
    memory: int

    def __str__(self) -> str:
        """Return the line of a result."""
        return (
            f"{self.sessions:,} sessions from {self.source}: {self.seconds:.0f} s, "
            f"{self.sessions / self.seconds:,.0f}/s; {self.cpu_seconds:.0f} s of CPU, "
            f"{self.sessions / self.cpu_seconds:,.0f}/s; "
            f"memory {self.early_memory / 2**20:.1f} MiB, then {self.memory / 2**20:.1f} MiB"
        )

    @property
    def is_good(self) -> bool:
        """Whether the target is met, and the memory has stayed flat."""
        is_flat = self.memory <= self.early_memory * FLAT
        return is_flat and self.sessions / self.seconds >= TARGET


def measure(rows: int, entries: int) -> Iterator[Result]:
    """Yield the result for that many rows of PostgreSQL, and then for entries of Redis."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="benchmarks-")))
        folder.chmod(0o755)  # for PostgreSQL's user, whose data is in it
        port = stack.enter_context(servers.postgresql(folder / "postgresql"))
        redis = stack.enter_context(
            servers.redis_server(servers.find("redis-server"), folder / "redis")
        )
        uri = stack.enter_context(mongod.running(folder / "mongodb"))
        _set_up(uri, port, redis)
        for source, number, fill in (("Redis", entries, _fill_redis), ("PostgreSQL", rows, _fill)):
            fill(number)
            # In a process of its own: the memory that the first one has used counts for none.
            yield _in_a_child(source, number)


def _in_a_child(source: str, number: int) -> Result:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(writer, pickle.dumps(_import(source, number)))
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        told = output.read()
    os.waitpid(child, 0)
    result: Result = pickle.loads(told)
    return result


def _import(source: str, number: int) -> Result:
    from django.db import connections

    from django_mongo_sessions.management.importing import Import

    connections.close_all()
    job = Import(_DB if source == "PostgreSQL" else _CACHE)
    began, cpu, early = time.monotonic(), time.process_time(), 0
    for done in job.run():
        if not early and done >= number / 10:
            early = _memory()
    assert job.counts["imported"] == number, job.counts
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    return Result(source, number, seconds, cpu_seconds, early, _memory())


def _memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _set_up(uri: str, port: int, redis: str) -> None:
    settings.configure(
        SECRET_KEY="of the benchmarks",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django_mongo_sessions",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": "127.0.0.1",
                "PORT": port,
                "NAME": "postgres",
                "USER": "postgres",
            }
        },
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis}
        },
        SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
        MONGO_SESSIONS={
            "URI": uri,
            "DATABASE": "benchmarks",
            "PREDECESSOR": _DB,
            "PREDECESSOR_UNTIL": "9999-01-01",
        },
        USE_TZ=True,
    )
    django.setup()


def _key(number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


def _data(number: int) -> dict[str, Any]:
    return payloads.random_data(_SIZE, True, random.Random(number))


def _fill(number: int) -> None:
    """Store rows by COPY. A thousand different texts, since to sign a million takes a while."""
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    texts = [SessionStore().encode(_data(kind)) for kind in range(_KINDS)]
    ends = datetime.now(timezone.utc) + timedelta(days=14)
    with connection.cursor() as cursor:
        statement = "COPY django_session (session_key, session_data, expire_date) FROM STDIN"
        with cursor.copy(statement) as copy:
            for each in range(number):
                copy.write_row((_key(each), texts[each % _KINDS], ends))
        cursor.execute("ANALYZE django_session")


def _fill_redis(number: int) -> None:
    from django.contrib.sessions.backends.cache import KEY_PREFIX
    from django.core.cache import cache

    contents = [_data(kind) for kind in range(_KINDS)]
    numbers = iter(range(-number, 0))  # other keys than those of the rows
    while part := list(islice(numbers, 1_000)):
        cache.set_many(
            {KEY_PREFIX + _key(each + 2**62): contents[each % _KINDS] for each in part}, 86_400
        )
