"""A request that stays in its event loop: no thread in the path."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import django
import pymongo
import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import path

import django_mongo_sessions
from tests.conftest import DATABASE

OURS = str(Path(django_mongo_sessions.__file__).parent)
PYMONGO = str(Path(pymongo.__file__).parent)
BLOCKING = str(Path(PYMONGO, "synchronous"))
LOGS = str(Path(OURS, "connection", "logs.py"))  # Django logs in a thread, and our filter is there


async def count(request):
    data = await request.session._aget_session()
    data["visits"] = data.get("visits", 0) + 1
    request.session.modified = True
    return HttpResponse(data["visits"])


async def read(request):
    data = await request.session._aget_session()
    return HttpResponse(data.get("visits"))


async def sign_in(request):
    await request.session.acycle_key()
    return HttpResponse()


async def mutate(request):
    def add(data):
        data["visits"] += 1

    await request.session.amutate(add)
    return HttpResponse()


async def sign_out(request):
    await request.session.aflush()
    return HttpResponse()


async def untouched(request):
    return HttpResponse()


async def fail(request):
    await request.session._aget_session()
    return HttpResponse(status=503)


VIEWS = [count, read, sign_in, mutate, untouched, fail, sign_out]
urlpatterns = [path(view.__name__, view) for view in VIEWS]


class Threads:
    """Notes which code runs in which thread, call by call."""

    def __init__(self):
        self.names = defaultdict(set)

    def record(self, frame, event, argument):
        # Whatever begins: functions, and coroutines and generators that go on.
        if event == "call":
            file = frame.f_code.co_filename
            if file == LOGS:
                return
            for place in (OURS, BLOCKING, PYMONGO):
                if file.startswith(place):
                    self.names[place].add(threading.current_thread().name)
                    return

    def __enter__(self):
        gc.disable()  # which finalizes what is PyMongo's in any thread
        threading.setprofile(self.record)
        sys.setprofile(self.record)
        return self

    def __exit__(self, *exc_info):
        gc.enable()
        threading.setprofile(None)
        sys.setprofile(None)


async def visit(client, *views):
    return [(await client.get(f"/{view.__name__}")).content.decode() for view in views]


def main(uri, mode):
    """Visit the site in this process, and print its responses and the threads that were seen.

    The first visitor's session is saved if it was changed, the second one's with every request.
    """
    settings.configure(
        SECRET_KEY="a test's",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["testserver"],
        MIDDLEWARE=["django_mongo_sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
        MONGO_SESSIONS={
            "URI": uri,
            "DATABASE": DATABASE,
            "ASYNC": mode,
            "TOUCH_INTERVAL": 1e-9,
        },
    )
    django.setup()

    contents = []
    with Threads() as threads:
        for every in (False, True):
            settings.SESSION_SAVE_EVERY_REQUEST = every
            contents.append(asyncio.run(visit(AsyncClient(), *VIEWS, count, read)))

    print(json.dumps({"contents": contents, **{k: sorted(v) for k, v in threads.names.items()}}))


def threads_of(uri, mode):
    """Run this module in a process of its own, where no other test's threads are."""
    ended = subprocess.run(
        [sys.executable, "-m", __name__, uri, mode],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(ended.stdout)


def test_neither_our_code_nor_pymongos_leaves_the_loops_thread(mongod_engine):
    seen = threads_of(mongod_engine, "native")

    assert seen.pop("contents") == [["1", "1", "", "", "", "", "", "1", "1"]] * 2
    assert seen == {OURS: ["MainThread"], PYMONGO: ["MainThread"]}


def test_the_test_would_notice_a_thread(mongod_engine):
    seen = threads_of(mongod_engine, "threads")

    assert seen[BLOCKING]
    assert len(seen[OURS]) > 1


@pytest.mark.urls(__name__)
def test_tasks_of_one_loop_do_not_wait_for_each_other(settings, mongod_engine):
    settings.MIDDLEWARE = ["django_mongo_sessions.middleware.SessionMiddleware"]
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}

    async def overlap():
        return await asyncio.gather(*(visit(AsyncClient(), count, count) for _ in range(16)))

    assert asyncio.run(overlap()) == [["1", "2"]] * 16


if __name__ == "__main__":
    main(*sys.argv[1:])
