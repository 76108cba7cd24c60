"""Many clients of one session, over HTTP, on the servers that sites run: no update is lost."""

import http.client
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import pytest
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from tests.servers.conftest import DATABASE

CLIENTS = 32
REQUESTS = 2000
GUNICORN = [
    *("-m", "gunicorn", "--workers=4", "--bind=127.0.0.1:{port}"),
    "django.core.wsgi:get_wsgi_application()",
]
UVICORN = [
    *("-m", "uvicorn", "--factory", "--port={port}"),
    "django.core.asgi:get_asgi_application",
]


def visit(port, path, numbers, cookie=None):
    """Request a page for each of the numbers; return the statuses and the last cookie."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    statuses = []
    for number in numbers:
        connection.request("GET", f"/{path}/{number}/", headers=cookie or {})
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
        if given := response.getheader("Set-Cookie"):
            cookie = {"Cookie": given.partition(";")[0]}
    connection.close()
    return statuses, cookie


def race(port, path):
    """Send all requests from all clients; return the statuses, and the cookie of the session."""
    _, cookie = visit(port, path, [0])
    numbers = iter(range(1, REQUESTS + 1))
    shares = [list(islice(numbers, -(-REQUESTS // CLIENTS))) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(visit, port, path, share, cookie) for share in shares]
        statuses = [status for answer in answers for status in answer.result()[0]]
    return statuses, cookie["Cookie"].partition("=")[2]


@pytest.mark.parametrize(
    ("options", "path"), [(GUNICORN, "visit"), (UVICORN, "avisit")], ids=["gunicorn", "uvicorn"]
)
def test_every_key_and_every_item_is_kept(serve, mongod_uri, settings, options, path):
    began = time.monotonic()
    statuses, key = race(serve(options).port, path)
    print(f"{options[1]}: {REQUESTS} requests in {time.monotonic() - began:.0f} s")

    assert len(statuses) == REQUESTS
    assert set(statuses) == {200}
    settings.SECRET_KEY = "a test's"
    settings.MONGO_SESSIONS = {"URI": mongod_uri, "DATABASE": DATABASE}
    data = SessionStore(key).load()
    clients.reset()
    assert sorted(data["visits"]) == list(range(REQUESTS + 1))
    everyone = {f"{word}{number}" for word in ("before", "after") for number in range(REQUESTS + 1)}
    assert data.keys() - {"visits"} == everyone


def test_djangos_own_engine_loses_most_of_it(serve, settings, tmp_path):
    """Measure what the documentation says about it."""
    port = serve(GUNICORN, "django.contrib.sessions.backends.db").port
    statuses, key = race(port, "visit")

    settings.SECRET_KEY = "a test's"
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        [[payload]] = database.execute(
            "SELECT session_data FROM django_session WHERE session_key = ?", [key]
        )
    data = DatabaseStore().decode(payload)
    answered = statuses.count(200)
    print(f"db: {answered} answered, {len(data['visits'])} visits, {len(data) - 1} keys kept")
    assert answered > 0
    assert len(data["visits"]) < answered
