"""Start MongoDB, PostgreSQL and Redis, each on a free port of 127.0.0.1, in a temporary folder.

They stop at the end of the block that started them, and also if this process is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from testproject import mongod

_START_TIMEOUT = 60  # seconds
# PostgreSQL does not run as root. Debian's package creates this user.
_POSTGRES = "postgres"


class ServerError(Exception):
    """A server is not installed, or did not start. The message says which, and what to do."""


class Addresses(NamedTuple):
    """The addresses of the servers, and a folder for engines that store files."""

    mongodb: str  # a URI
    postgresql: int  # a port
    redis: str  # a URL
    folder: str


@contextmanager
def running() -> Iterator[Addresses]:
    """Run all servers during the block, and yield their addresses."""
    program = find("redis-server")
    find("wrk")  # now, and not after half of the run
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        folder.chmod(0o755)  # for PostgreSQL's user, whose data is in it
        mongodb = stack.enter_context(mongod.running(folder / "mongodb"))
        port = stack.enter_context(postgresql(folder / "postgresql"))
        redis = stack.enter_context(redis_server(program, folder / "redis"))
        yield Addresses(mongodb, port, redis, str(folder))


def find(program: str) -> str:
    """Return the path of a server's program. Raise ServerError if it is not installed."""
    found = shutil.which(program)
    # Debian keeps the programs of each version of PostgreSQL outside of the PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if debian:
        return str(debian[-1])
    if found:
        return found
    raise ServerError(
        f"{program} is not installed. The benchmarks measure PostgreSQL and Redis too, and load "
        "sites with wrk. On Debian: apt-get install postgresql redis-server wrk. "
        "`make bench-quick` needs none of them."
    )


@contextmanager
def postgresql(folder: Path) -> Iterator[int]:
    """Run PostgreSQL with its default settings, and a database and a user `postgres`.

    Yield its port. If this process runs as root, the user `postgres` must have access to the
    parent of the folder.
    """
    import psycopg

    initdb, postgres = find("initdb"), find("postgres")
    folder.mkdir()
    become: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, _POSTGRES, _POSTGRES)
        # Unlike su and runuser, setpriv becomes the server, so that signals reach it.
        become = ["setpriv", f"--reuid={_POSTGRES}", f"--regid={_POSTGRES}", "--init-groups"]
    data = str(folder / "data")
    done = subprocess.run(
        [*become, initdb, "--auth=trust", f"--username={_POSTGRES}", "--pgdata", data],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise ServerError(f"initdb failed:\n{done.stdout}")
    port = mongod.free_port()
    command = [*become, postgres, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]

    def connect() -> None:
        psycopg.connect(host="127.0.0.1", port=port, user=_POSTGRES, connect_timeout=5).close()

    with _server("postgres", command, folder, connect, psycopg.OperationalError):
        yield port


@contextmanager
def redis_server(program: str, folder: Path) -> Iterator[str]:
    """Run Redis as a cache, which writes nothing to the disk. Yield its URL."""
    import redis

    folder.mkdir()
    port = mongod.free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "save": "", "appendonly": "no"}
    command = [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
    url = f"redis://127.0.0.1:{port}"

    def connect() -> None:
        with redis.Redis.from_url(url) as client:
            client.ping()

    with _server("redis-server", command, folder, connect, redis.ConnectionError):
        yield url


@contextmanager
def _server(
    name: str,
    command: list[str],
    folder: Path,
    connect: Callable[[], Any],
    not_ready: type[Exception],
) -> Iterator[None]:
    """Run a server during the block, which begins once the server accepts connections."""
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        # Run as a program, mongod.py keeps a server alive while its standard input is open.
        keeper = subprocess.Popen(
            [sys.executable, mongod.__file__, *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C does not reach the server
        )
    assert keeper.stdin is not None
    deadline = time.monotonic() + _START_TIMEOUT
    try:
        while True:
            try:
                connect()
                break
            except not_ready as error:
                if keeper.poll() is not None or time.monotonic() > deadline:
                    last = log.read_text(errors="replace").splitlines()[-5:]
                    raise ServerError("\n".join([f"{name} did not start:", *last])) from error
                time.sleep(0.1)
        yield
    finally:
        keeper.stdin.close()
        keeper.wait()
