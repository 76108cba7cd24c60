"""The real servers that are measured, each on a free port of 127.0.0.1 and in a temporary folder.

They end with the block that began them, and also when this process dies without a word.
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
# PostgreSQL does not run as root; Debian's package brings this user.
_POSTGRES = "postgres"


class ServerError(Exception):
    """A server is not here, or does not run; the message says which and what to do."""


class Addresses(NamedTuple):
    """Where the servers listen, and a folder for those who need none."""

    mongodb: str  # a URI
    postgresql: int  # a port
    redis: str  # a URL
    folder: str


@contextmanager
def all_of_them() -> Iterator[Addresses]:
    """Run every server; yield where they are."""
    redis_server = find("redis-server")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        folder.chmod(0o755)  # PostgreSQL's user has to find its data in there
        mongodb = stack.enter_context(mongod.running(folder / "mongodb"))
        port = stack.enter_context(postgresql(folder / "postgresql"))
        redis = stack.enter_context(_redis(redis_server, folder / "redis"))
        yield Addresses(mongodb, port, redis, str(folder))


def find(program: str) -> str:
    """Return the path of a server's program; raise ServerError where it is not installed."""
    found = shutil.which(program)
    # Debian keeps PostgreSQL's out of the PATH, by version.
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if debian:
        return str(debian[-1])
    if found:
        return found
    raise ServerError(
        f"There is no {program}. The benchmarks measure PostgreSQL and Redis beside MongoDB. On "
        "Debian: apt-get install postgresql redis-server. `make bench-quick` needs neither."
    )


@contextmanager
def postgresql(folder: Path) -> Iterator[int]:
    """Run PostgreSQL as it is after its installation, with a database and a user `postgres`.

    Yield its port. Where this is root, PostgreSQL's user must be able to reach the new folder.
    """
    import psycopg

    initdb, postgres = find("initdb"), find("postgres")
    folder.mkdir()
    become: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, _POSTGRES, _POSTGRES)
        # Unlike su and runuser it becomes the server, so that a signal to it arrives.
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

    def ask() -> None:
        psycopg.connect(host="127.0.0.1", port=port, user=_POSTGRES, connect_timeout=5).close()

    with _running("postgres", command, folder, ask, psycopg.OperationalError):
        yield port


@contextmanager
def _redis(program: str, folder: Path) -> Iterator[str]:
    """Run Redis as a cache: nothing is written to disk."""
    import redis

    folder.mkdir()
    port = mongod.free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "save": "", "appendonly": "no"}
    command = [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
    url = f"redis://127.0.0.1:{port}"

    def ask() -> None:
        with redis.Redis.from_url(url) as client:
            client.ping()

    with _running("redis-server", command, folder, ask, redis.ConnectionError):
        yield url


@contextmanager
def _running(
    name: str,
    command: list[str],
    folder: Path,
    ask: Callable[[], Any],
    refusal: type[Exception],
) -> Iterator[None]:
    """Run a server from when it answers until the end of the block."""
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        # As a program, that module keeps a server for as long as its standard input is open.
        keeper = subprocess.Popen(
            [sys.executable, mongod.__file__, *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us
        )
    assert keeper.stdin is not None
    deadline = time.monotonic() + _START_TIMEOUT
    try:
        while True:
            try:
                ask()
                break
            except refusal as error:
                if keeper.poll() is not None or time.monotonic() > deadline:
                    last = log.read_text(errors="replace").splitlines()[-5:]
                    raise ServerError("\n".join([f"{name} did not start:", *last])) from error
                time.sleep(0.1)
        yield
    finally:
        keeper.stdin.close()
        keeper.wait()
