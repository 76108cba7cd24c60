"""Who holds connections, for how long, and with which options."""

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.monitoring import ServerHeartbeatListener

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.collection import make_collection
from tests.conftest import DATABASE, end

NOWHERE = "mongodb://127.0.0.1:1"


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)


def options():
    return clients.collection()[0].database.client.options


def test_nothing_connects_at_import_or_in_a_constructor(mongod_engine):
    clients.reset()

    SessionStore("0123456789abcdefghijklmnopqrstuv")

    assert clients._clients.blocking is None


def test_one_client_serves_the_whole_process(mongod_engine):
    assert clients.collection() is clients.collection()


def test_threads_that_come_at_once_share_one_client(mongod_engine):
    clients.reset()
    start = threading.Barrier(32)

    def reach():
        start.wait()
        return clients.collection()

    with ThreadPoolExecutor(32) as pool:
        reached = [future.result() for future in [pool.submit(reach) for _ in range(32)]]

    assert all(reach is reached[0] for reach in reached)


@pytest.mark.parametrize("is_ours", [True, False])
def test_of_two_clients_that_are_made_at_once_the_first_is_used(
    mongod_engine, monkeypatch, is_ours
):
    first, made = clients.collection(), []

    def make(kind):
        """Make one, while another thread is faster."""
        made.append(make_collection(kind)._replace(owned=is_ours))
        clients._clients.blocking = first
        return made[-1]

    monkeypatch.setattr(clients._clients, "blocking", None)
    monkeypatch.setattr(clients, "make_collection", make)

    assert clients.collection() is first
    assert [each.client._closed for each in made] == [is_ours]
    made[0].client.close()


def test_a_changed_setting_makes_a_new_client_and_closes_the_old_one(mongod_engine, settings):
    old = clients.collection()[0]
    old.find_one({})

    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "COLLECTION": "others"}

    assert clients.collection()[0].name == "others"
    with pytest.raises(PyMongoError, match="after close"):
        old.find_one({})


def test_a_change_of_another_setting_keeps_the_client(mongod_engine, settings):
    before = clients.collection()

    settings.SESSION_COOKIE_AGE = 60

    assert clients.collection() is before


# Loops


def test_a_young_loop_is_served_by_a_thread(mongod_engine):
    async def reach():
        return await clients.acollection()

    assert asyncio.run(reach()) is None


def test_a_loop_that_has_run_for_a_second_has_a_client_of_its_own(mongod_engine, monkeypatch):
    async def reaches():
        first = await clients.acollection()
        clients._clients.first_seen[asyncio.get_running_loop()] -= clients.PROMOTION_AGE
        return [first, *await asyncio.gather(*(clients.acollection() for _ in range(5)))]

    first, second, *others = asyncio.run(reaches())

    assert first is None
    assert second is not None
    assert all(reach is second for reach in others)


def test_while_mongodb_is_down_no_loop_waits_for_it_with_a_client_of_its_own(settings, native):
    settings.MONGO_SESSIONS = {"URI": NOWHERE, "TIMEOUT": 0.1}

    async def reach():
        return await clients.acollection()

    with pytest.raises(ServerSelectionTimeoutError):
        SessionStore("0123456789abcdefghijklmnopqrstuv").load()
    assert asyncio.run(reach()) is None

    clients.collection().gate.leave(time.monotonic())  # a call got a reply
    assert asyncio.run(reach()) is not None


def test_every_loop_has_a_client_of_its_own_if_ASYNC_is_native(mongod_engine, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "native"}

    async def reach():
        return await clients.acollection()

    assert asyncio.run(reach()) is not None


def test_no_loop_has_a_client_of_its_own_if_ASYNC_is_threads(mongod_engine, settings, native):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ASYNC": "threads"}

    async def reach():
        return await clients.acollection()

    assert asyncio.run(reach()) is None


def test_mongomock_is_served_by_threads_whatever_ASYNC_is(use):
    use(URI="mongomock://", ASYNC="native")

    async def reach():
        return await clients.acollection()

    assert asyncio.run(reach()) is None


def test_a_loop_closes_its_client_and_is_forgotten(mongod_engine, native):
    async def use():
        store = SessionStore()
        await store.asave()
        assert len(clients._clients.by_loop) == 1
        return (await clients.acollection())[0]

    collections = [asyncio.run(use()), async_to_sync(use)()]

    assert not clients._clients.by_loop
    assert all(collection.database.client._closed for collection in collections)


def test_a_loop_that_did_not_close_its_client_is_forgotten_at_the_next_lookup(
    mongod_engine, native
):
    hasty = asyncio.new_event_loop()
    reach = hasty.run_until_complete(clients.acollection())
    hasty.close()
    assert list(clients._clients.by_loop) == [hasty]

    other = asyncio.new_event_loop()
    other.run_until_complete(clients.acollection())

    async def look():
        await clients.acollection()
        return list(clients._clients.by_loop)

    looked = asyncio.run(look())
    assert hasty not in looked
    assert other in looked
    end(other)
    assert not reach[0].database.client._opened
    gc.collect()


def test_reset_drops_a_loops_client_and_the_loop_closes_it(mongod_engine, native):
    async def use():
        old = (await clients.acollection())[0].database.client
        await old.admin.command("ping")
        clients.reset()
        new = (await clients.acollection())[0].database.client
        while not old._closed:
            await asyncio.sleep(0.01)
        assert await clients.acollection() is not None
        return new, (await clients.acollection())[0].database.client

    new, still = asyncio.run(asyncio.wait_for(use(), 10))

    assert new is still


def test_a_shared_client_is_requested_once_per_loop_and_never_closed(use, mongod_uri, native):
    made = []

    def factory():
        made.append(AsyncMongoClient(mongod_uri))
        return made[-1]

    use(ASYNC_CLIENT=factory, DATABASE=DATABASE)

    async def visit():
        await SessionStore().asave()
        await SessionStore().asave()
        reach = await clients.acollection()
        return reach.client

    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    assert [loop.run_until_complete(visit()) for loop in loops] == made
    for loop, client in zip(loops, made, strict=True):
        _, holder = clients._clients.by_loop[loop]
        loop.run_until_complete(holder.aclose())  # as the loop does when it ends
        assert not client._closed
        loop.run_until_complete(client.close())
        end(loop)
    assert not clients._clients.by_loop


# Processes


def test_a_parents_client_is_neither_used_nor_closed_by_its_child(mongod_engine):
    parents = clients._clients
    parents_client = clients.collection()[0].database.client

    clients._forget_inherited()  # what a fork calls in the child

    assert clients.collection()[0].database.client is not parents_client
    clients.reset()
    assert parents_client.admin.command("ping")
    assert clients._inherited.pop() is parents
    clients._clients = parents


def _in_child(key, answers):
    store = SessionStore(key)
    answers.put((store["a"], len(clients._inherited)))
    clients.reset()


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_makes_its_own_client_after_a_fork(mongod_engine):
    store = SessionStore()
    store["a"] = 1
    store.save()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    child = context.Process(target=_in_child, args=(store.session_key, answers))
    child.start()

    assert answers.get(timeout=30) == (1, 1)
    child.join(30)
    assert child.exitcode == 0
    assert SessionStore(store.session_key)["a"] == 1
    answers.close()


PROGRAM = """
import asyncio, django, logging
logging.getLogger("asyncio").setLevel("ERROR")  # not how long a step takes
from django.conf import settings
settings.configure(SECRET_KEY="x", MONGO_SESSIONS={{"URI": {uri!r}, "DATABASE": {database!r}}})
django.setup()
from django_mongo_sessions.connection import clients
from django_mongo_sessions.backends.mongodb import SessionStore
clients.PROMOTION_AGE = 0
store = SessionStore()
store.save()
asyncio.run(SessionStore(store.session_key).adelete())
print("done")
"""


def test_a_process_ends_without_a_warning(mongod_engine):
    program = PROGRAM.format(uri=mongod_engine, database=DATABASE)

    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ended.stdout, ended.stderr) == ("done\n", "")


# Outages


class Heartbeats(ServerHeartbeatListener):
    """Counts the attempts to reach the server that have failed."""

    count = 0

    def started(self, event):
        pass

    def succeeded(self, event):
        pass

    def failed(self, event):
        self.count += 1


async def load_and_settle(store, failed):
    """Load, and close between two attempts: PyMongo leaks the socket of one that is cut short."""
    try:
        await store.aload()
    finally:
        before = failed.count
        while failed.count == before:
            await asyncio.sleep(0.01)
        clients.reset()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("form", ["sync", "native", "threads"])
def test_an_outage_raises_pymongos_error_within_the_deadline(use, monkeypatch, form):
    failed = Heartbeats()
    patient = {"serverSelectionTimeoutMS": 600_000, "event_listeners": [failed]}
    use(URI=NOWHERE, TIMEOUT=0.6, CLIENT_OPTIONS=patient)
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0 if form == "native" else 60)
    store = SessionStore("0123456789abcdefghijklmnopqrstuv")
    began = time.monotonic()

    loads = {
        "sync": store.load,
        "native": lambda: asyncio.run(load_and_settle(store, failed)),
        "threads": lambda: asyncio.run(store.aload()),
    }
    with pytest.raises(ConnectionFailure):
        loads[form]()

    assert store.session_key
    assert time.monotonic() - began < 60  # the client alone would have waited for ten minutes


def test_the_package_can_be_imported_on_a_platform_without_fork():
    # Windows has no os.register_at_fork.
    source = (
        "import pymongo, os; del os.register_at_fork; from django.conf import settings; "
        "settings.configure(); import django_mongo_sessions.connection.clients"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
