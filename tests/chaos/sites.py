"""Serve the site with gunicorn and with uvicorn."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testproject.mongod import free_port
from tests.servers.processes import Server

WSGI = "django.core.wsgi:get_wsgi_application()"
GUNICORN = ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--timeout=120"]
# By the name of a server: Python's options, and the path of the views that it serves.
SERVERS = {
    "gunicorn": ([*GUNICORN, "--workers=2", "--threads=6", WSGI], "/"),
    "uvicorn": (
        [
            *("-m", "uvicorn", "--factory", "--port={port}", "--log-level=warning"),
            "django.core.asgi:get_asgi_application",
        ],
        "/async/",
    ),
}


OURS = "django_mongo_sessions.backends.mongodb"


def environment(uri: str, engine: str = OURS, **settings: Any) -> dict[str, str]:
    """Return the environment of a process with the site; `settings` go into `MONGO_SESSIONS`."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.chaos.site",
        "SITE_ENGINE": engine,
        "SITE_URI": uri,
        "SITE_DATABASE": "chaos",
        "SITE_SQLITE": "",
        "SITE_SETTINGS": json.dumps(settings),
    }


@contextmanager
def serving(
    folder: Path, uri: str, options: list[str], engine: str = OURS, **settings: Any
) -> Iterator[Server]:
    """Serve the site with sessions in a MongoDB; `settings` go into `MONGO_SESSIONS`."""
    port = free_port()
    command = [option.format(port=port) for option in options]
    server = Server(
        command, port, environment(uri, engine, **settings), folder / f"server{port}.log"
    )
    try:
        yield server.wait_until_it_answers()
    finally:
        if server.process.poll() is None:
            server.stop()
