"""The filter for LOGGING that lets one record of an outage through."""

import logging
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from pymongo.errors import OperationFailure

from django_mongo_sessions import log
from django_mongo_sessions.exceptions import ServerUnavailable

PAGE = (Path(__file__).parents[1] / "docs" / "outages.md").read_text()
AWAY = ServerUnavailable("away")


def record(error=None):
    exc_info = error and (type(error), error, None)
    return logging.LogRecord("django.request", logging.ERROR, "", 0, "said", None, exc_info)


@pytest.fixture
def clock(monkeypatch):
    """What time.monotonic() returns, to be changed."""
    now = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    return now


def caused_by(cause):
    error = ValueError("no cart")
    error.__cause__ = cause
    return error


def test_one_record_of_an_outage_passes_in_each_period(clock):
    limit = log.LimitOutages(period=60)

    passed = []
    for clock[0] in (100, 101, 159, 160, 161):
        passed.append(limit.filter(record(caused_by(AWAY) if clock[0] == 101 else AWAY)))

    assert passed == [True, False, False, True, False]


def test_any_other_record_passes(clock):
    limit = log.LimitOutages()
    limit.filter(record(AWAY))

    others = [None, ValueError("a bug"), OperationFailure("not authorized", 13)]
    assert all(limit.filter(record(error)) for error in others)
    assert not limit.filter(record(AWAY))


class Slow(float):
    """A period: while it is added to the time, other threads come."""

    def __radd__(self, now):
        Event().wait(0.01)
        return now + float(self)


def test_one_of_many_threads_passes():
    limit, threads = log.LimitOutages(Slow(600)), 8

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(limit.filter, [record(AWAY) for _ in range(threads)])) == 1


def test_one_of_each_process_passes(clock, monkeypatch):
    limit = log.LimitOutages()
    limit.filter(record(AWAY))

    monkeypatch.setattr(log.os, "getpid", lambda: 1)

    assert limit.filter(record(AWAY))


SITE = """
import django
from django.conf import settings
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from django.urls import path

{example}

def breaks(request):
    raise ValueError("a bug")

urlpatterns = [
    path("reads", lambda request: HttpResponse(request.session["a"])),
    path("breaks", breaks),
]
settings.configure(
    ADMINS=["admin@example.com"] if django.VERSION >= (6, 0) else [("Ann", "admin@example.com")],
    ALLOWED_HOSTS=["testserver"],
    EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    INSTALLED_APPS=["django_mongo_sessions"],
    LOGGING=LOGGING,
    MIDDLEWARE=["django_mongo_sessions.middleware.SessionMiddleware"],
    MONGO_SESSIONS={{"URI": "mongodb://127.0.0.1:1", "TIMEOUT": 0.1}},
    ROOT_URLCONF=__name__,
    SECRET_KEY="a key of these tests" * 3,
    SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
)
django.setup()
mail.outbox = []
client = Client(raise_request_exception=False)
client.cookies["sessionid"] = "0123456789abcdefghijklmnopqrstuv"
for url in ("/reads", "/reads", "/breaks", "/reads", "/breaks"):
    client.get(url)
print(*(message.subject.rpartition(" ")[2] for message in mail.outbox))
"""


def test_the_example_in_the_docs_sends_one_mail_of_an_outage_and_each_of_anything_else():
    example = PAGE.partition("```python\nLOGGING = ")[2].partition("\n```")[0]
    site = SITE.format(example=textwrap.dedent(f"LOGGING = {example}"))

    done = subprocess.run(
        [sys.executable, "-c", site], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout.split() == ["/reads", "/breaks", "/breaks"], done.stderr
    # Every record is in the log, with the traceback of what went wrong.
    assert done.stderr.count("MongoDB is down at 127.0.0.1:1") == 3
