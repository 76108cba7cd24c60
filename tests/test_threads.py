"""A request that stays in its event loop: no thread in the path."""

import asyncio
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymongo
import pytest
from asgiref.sync import SyncToAsync
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import path

import django_mongo_sessions
from django_mongo_sessions import clients
from django_mongo_sessions.backends.mongodb import SessionStore

OURS = str(Path(django_mongo_sessions.__file__).parent)
PYMONGO = str(Path(pymongo.__file__).parent)
BLOCKING = str(Path(PYMONGO, "synchronous"))


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
    """In which threads which code runs, call by call."""

    def __init__(self):
        self.names = defaultdict(set)

    def record(self, frame, event, argument):
        # Whatever begins: functions, and coroutines and generators that go on.
        if event == "call":
            file = frame.f_code.co_filename
            for place in (OURS, BLOCKING, PYMONGO):
                if file.startswith(place):
                    self.names[place].add(threading.current_thread().name)
                    return

    def __enter__(self):
        threading.setprofile(self.record)
        sys.setprofile(self.record)
        return self

    def __exit__(self, *exc_info):
        threading.setprofile(None)
        sys.setprofile(None)


@pytest.fixture
def site(settings, mongod_engine, monkeypatch):
    # One whose thread begins anew, or it would go unnoticed.
    with ThreadPoolExecutor(1) as executor:
        monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
        prepare(settings)
        yield


def prepare(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django_mongo_sessions.middleware.SessionMiddleware"]
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "TOUCH_INTERVAL": 1e-9}


async def visit(client, *views):
    return [(await client.get(f"/{view.__name__}")).content for view in views]


@pytest.mark.parametrize("every", [False, True])
def test_neither_our_code_nor_pymongos_leaves_the_loops_thread(settings, site, every):
    settings.SESSION_SAVE_EVERY_REQUEST = every
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}
    clients.reset()
    deadline = time.monotonic() + 30
    while any("pymongo" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.05)

    with Threads() as threads:
        contents = asyncio.run(visit(AsyncClient(), *VIEWS, count, read))

    assert contents[0] == contents[-1] == b"1"
    here = {threading.current_thread().name}
    assert threads.names == {OURS: here, PYMONGO: here}


def test_where_threads_serve_a_loop_this_would_be_seen(settings, site):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "threads"}

    with Threads() as threads:
        asyncio.run(visit(AsyncClient(), count))

    assert threads.names[BLOCKING]
    assert len(threads.names[OURS]) > 1


def test_tasks_of_one_loop_do_not_wait_for_each_other(settings, site):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}

    async def overlap():
        return await asyncio.gather(*(visit(AsyncClient(), count, count) for _ in range(16)))

    assert asyncio.run(overlap()) == [[b"1", b"2"]] * 16
    assert SessionStore.clear_expired() == 0
