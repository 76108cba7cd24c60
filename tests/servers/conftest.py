"""Servers that sites run, as processes of their own with the site of site.py."""

import os
import subprocess
import sys

import pytest
from pymongo import MongoClient

from testproject.mongod import free_port
from tests.servers.processes import Server

OURS = "django_mongo_sessions.backends.mongodb"
DATABASE = "django_mongo_sessions_servers"


@pytest.fixture
def serve(mongod_uri, tmp_path):
    """`serve(options, engine)` starts a server with the site on an engine.

    `options` are Python's, with `{port}` in the place of the port. Keyword arguments are further
    environment variables of the site.
    """
    started = []

    def serve(options, engine=OURS, **environment):
        port = free_port()
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.servers.site",
            "SITE_ENGINE": engine,
            "SITE_URI": mongod_uri,
            "SITE_DATABASE": DATABASE,
            "SITE_SQLITE": str(tmp_path / "db.sqlite3"),
            **environment,
        }
        if engine != OURS:
            migrate = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
            subprocess.run(migrate, env=environment, check=True)
        command = [option.format(port=port) for option in options]
        server = Server(command, port, environment, tmp_path / f"log{len(started)}")
        started.append(server)
        return server.wait_until_it_answers()

    yield serve
    for server in started:
        if server.process.poll() is None:
            server.stop()
        assert "Traceback" not in server.log.read_text()
    with MongoClient(mongod_uri) as client:
        client.drop_database(DATABASE)
