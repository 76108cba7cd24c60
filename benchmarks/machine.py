"""Describe where a run took place: the machine, and the versions of packages and servers."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from pymongo import MongoClient

from benchmarks.servers import Addresses

_DISTRIBUTIONS = [
    *("Django", "pymongo", "django-mongodb-backend", "Flask-Session"),
    *("psycopg", "redis", "hiredis", "uvicorn", "uvloop"),
]


def describe(folder: Path) -> dict[str, Any]:
    """Return the date, the hardware, and the file system of the folder with the servers' data."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file_system": _file_system(folder),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the folder's file system. On a tmpfs, an fsync would cost nothing."""
    holding = [
        partition
        for partition in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(partition.mountpoint)
    ]
    return str(max(holding, key=lambda partition: len(partition.mountpoint)).fstype)


def versions(addresses: Addresses) -> dict[str, str]:
    """Return the versions of Python, of the packages and of the servers."""
    with MongoClient[dict[str, Any]](addresses.mongodb) as client:
        mongodb = client.server_info()["version"]
    with psycopg.connect(host="127.0.0.1", port=addresses.postgresql, user="postgres") as database:
        postgresql = database.info.parameter_status("server_version") or ""
    with redis.Redis.from_url(addresses.redis) as cache:
        redis_server = str(cache.info("server")["redis_version"])
    return {
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in _DISTRIBUTIONS},
        "MongoDB": mongodb,
        "PostgreSQL": postgresql.split()[0],
        "Redis": redis_server,
    }
