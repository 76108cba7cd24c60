"""What docs/monitoring.md shows does what it says. The packages of others need not be installed."""

import asyncio
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from django_mongo_sessions.backends.mongodb import SessionStore
from testproject.mongod import free_port
from tests.conftest import DATABASE, collection
from tests.recipes.tracing import VALUE

ROOT = Path(__file__).parents[1]


def needs(package):
    is_missing = find_spec(package) is None and "NEEDS_RECIPES" not in os.environ
    return pytest.mark.skipif(is_missing, reason=f"{package} is not installed")


def ask(view, rf):
    answer = view(rf.get("/"))
    response = asyncio.run(answer) if asyncio.iscoroutine(answer) else answer
    return response.status_code, response.content


@pytest.mark.parametrize("form", ["ready", "aready"])
def test_a_process_is_ready_while_it_can_load_sessions(
    mongod_engine, rf, settings, monkeypatch, form
):
    health = import_module("docs.recipes.health")
    assert ask(getattr(health, form), rf) == (200, b"ready")

    settings.MONGO_SESSIONS = {"URI": f"mongodb://127.0.0.1:{free_port()}/mysite"}
    monkeypatch.setattr(health, "SECONDS", 0.1)
    assert ask(getattr(health, form), rf) == (503, b"ServerSelectionTimeoutError")
    assert ask(health.alive, rf) == (200, b"alive")


@needs("prometheus_client")
def test_prometheus_counts_commands_failures_and_connections(mongod_engine, settings):
    from prometheus_client import REGISTRY

    metrics = import_module("docs.recipes.metrics")
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "CLIENT_OPTIONS": {"event_listeners": metrics.LISTENERS},
        "ASYNC": "native",
    }

    def sample(name, **labels):
        return REGISTRY.get_sample_value(f"sessions_{name}", labels)

    async def use():
        session = SessionStore()
        await session.acreate()
        await session.aload()
        assert sample("connections") == 2

    first = SessionStore()
    first.create()
    assert sample("connections") == 1
    asyncio.run(use())

    assert sample("command_seconds_count", command="insert") == 2
    assert sample("command_seconds_count", command="find") == 1
    assert sample("connections") == 1

    with pytest.raises(OperationFailure):
        collection().database.command("nonsense")
    assert sample("command_failures_total", command="nonsense", error="CommandNotFound") == 1


def sent_by(library, uri, **options):
    """Return the key of a session, and what a tracing library has sent of its requests."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.recipes.tracing", library, json.dumps(options), DATABASE],
        env={**os.environ, "MONGODB_URI": uri},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["key"], [json.loads(each) for each in found["sent"]]


LIBRARIES = [
    pytest.param(library, options, has_text, marks=needs(package))
    for library, package, options, has_text in [
        ("sentry", "sentry_sdk", {}, False),
        ("sentry", "sentry_sdk", {"data_collection": {"database_query_data": False}}, False),
        ("sentry", "sentry_sdk", {"send_default_pii": True}, True),
        ("sentry", "sentry_sdk", {"send_default_pii": True, "attach_stacktrace": True}, True),
        ("opentelemetry", "opentelemetry", {}, False),
        ("opentelemetry", "opentelemetry", {"capture_statement": True}, True),
    ]
]


@pytest.mark.parametrize(("library", "options", "has_text"), LIBRARIES)
def test_a_tracing_library_sends_commands_and_nothing_of_a_session(
    mongod_uri, library, options, has_text
):
    key, sent = sent_by(library, mongod_uri, **options)

    text = json.dumps(sent)
    assert "mongodb" in text
    assert "insert" in text
    assert ("<payload of " in text) is has_text
    assert VALUE not in text
    assert key not in text
