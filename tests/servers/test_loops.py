"""A thousand short event loops leave nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.conftest import DATABASE, OURS

LOOPS = 1000

# Begins with some seconds of loops, in which everything that stays is opened: the connections of
# the blocking client and of its monitor, and the thread that serves young loops.
PROGRAM = """
import asyncio, gc, logging, os, threading, time
import django
django.setup()
from asgiref.sync import async_to_sync
from django.test import Client
from django_mongo_sessions.connection import clients
from django_mongo_sessions.backends.mongodb import SessionStore

# On a busy machine, asyncio's debug mode warns of steps that take long.
logging.getLogger("asyncio").setLevel(logging.ERROR)

async def use():
    store = SessionStore()
    await store._aget_session()
    store["a"] = 1
    await store.asave()
    assert await SessionStore(store.session_key).aload() == {{"a": 1}}

def a_command():
    asyncio.run(use())

def an_async_view():
    async_to_sync(use)()

browser = Client()

def the_test_client():
    assert browser.get("/count/").status_code == 200

def left():
    gc.collect()
    descriptors = os.listdir("/proc/self/fd")
    registered = len(clients._clients.by_loop), len(clients._clients.first_seen)
    return len(descriptors), threading.active_count(), registered

settled = time.monotonic() + 3
while time.monotonic() < settled:
    {kind}()
before = left()
for _ in range({loops}):
    {kind}()
# asgiref lets its threads end by themselves.
deadline = time.monotonic() + 30
while any(now > then for now, then in zip(left(), before)):
    assert time.monotonic() < deadline, (before, left())
    time.sleep(0.05)
print("nothing is left")
clients.reset()
"""

# The same by the loops that pytest-asyncio makes.
TESTS = """
import gc, os, threading
import pytest
from django_mongo_sessions.connection import clients
from django_mongo_sessions.backends.mongodb import SessionStore

seen = {{}}

def left():
    gc.collect()
    registered = len(clients._clients.by_loop), len(clients._clients.first_seen)
    return len(os.listdir("/proc/self/fd")), threading.active_count(), registered

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range({loops}))
async def test_a_session_is_stored(number):
    if number == {loops} // 2:
        seen["before"] = left()
    store = SessionStore()
    await store._aget_session()
    store["a"] = number
    await store.asave()
    assert await SessionStore(store.session_key).aload() == {{"a": number}}

def test_the_process_leaves_nothing_behind():
    assert all(now <= then for now, then in zip(left(), seen["before"])), (left(), seen)
    clients.reset()
"""


@pytest.fixture
def environment(mongod_uri, tmp_path):
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.servers.site",
        "SITE_ENGINE": OURS,
        "SITE_URI": mongod_uri,
        "SITE_DATABASE": DATABASE,
        "SITE_SQLITE": str(tmp_path / "db.sqlite3"),
    }


@pytest.mark.parametrize("mode", ["auto", "native", "threads"])
@pytest.mark.parametrize("kind", ["a_command", "an_async_view", "the_test_client"])
def test_a_thousand_loops_leave_nothing_behind(environment, kind, mode):
    program = PROGRAM.format(kind=kind, loops=LOOPS)

    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        env={**environment, "SITE_ASYNC": mode},
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert (ended.stdout, ended.stderr) == ("nothing is left\n", "")


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_a_thousand_async_tests_leave_nothing_behind(environment, tmp_path, mode):
    (tmp_path / "test_sessions.py").write_text(TESTS.format(loops=LOOPS))
    options = ["-q", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]

    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", *options, "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        env={**environment, "SITE_ASYNC": mode, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert f"{LOOPS + 1} passed" in ended.stdout, ended.stdout
    assert ended.stderr == ""
