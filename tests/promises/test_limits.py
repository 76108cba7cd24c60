"""However many sign-ins of a user come at once: at rest there are as many sessions as may be."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import django
import pytest
from django.conf import settings as django_settings
from django.contrib.auth import SESSION_KEY

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run
from tests.conftest import DATABASE, IS_LONG, collection

LIMIT = 3
AT_ONCE = 16
ROUNDS = 100 if IS_LONG else 6
PROCESSES = 2
USERS = ROUNDS // 2  # so that half of the rounds begin with as many sessions as may be


@pytest.fixture
def limited(mongod_engine, settings):
    """The engine on a collection with its indexes, and a limit; its URI."""
    settings.MONGO_SESSIONS["MAX_SESSIONS"] = LIMIT
    run(indexes.mend())
    return mongod_engine


def user_of(turn):
    return f"user {turn % USERS}"


def stored(turn):
    return collection().count_documents({"user_id": user_of(turn)})


def sign_in(turn, number):
    """Sign a user in: every other time in a session that has been anonymous."""
    session = SessionStore()
    if number % 2:
        session["basket"] = [number]
        session.save()
        session.cycle_key()
    session[SESSION_KEY] = user_of(turn)
    session.save()


async def asign_in(turn, number):
    session = SessionStore()
    if number % 2:
        session["basket"] = [number]
        await session.asave()
        await session.acycle_key()
    session[SESSION_KEY] = user_of(turn)
    await session.asave()


def at_once(pool, turn, count):
    start = threading.Barrier(count)

    def work(number):
        start.wait()
        sign_in(turn, number)

    for _ in pool.map(work, range(count)):
        pass


def test_from_threads(limited):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for turn in range(ROUNDS):
            at_once(pool, turn, AT_ONCE)

            assert stored(turn) == LIMIT


def test_from_tasks(limited, monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)

    async def rounds():
        for turn in range(ROUNDS):
            await asyncio.gather(*(asign_in(turn, number) for number in range(AT_ONCE)))

            assert stored(turn) == LIMIT

    asyncio.run(rounds())


def test_from_processes(limited):
    with ExitStack() as stack:
        processes = [stack.enter_context(process(limited)) for _ in range(PROCESSES)]
        for turn in range(ROUNDS):
            for each in processes:
                print(turn, file=each.stdin, flush=True)

            assert [each.stdout.readline() for each in processes] == [f"{turn}\n"] * PROCESSES
            assert stored(turn) == LIMIT


def process(uri):
    return subprocess.Popen(
        [sys.executable, "-m", __name__, uri, DATABASE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main(uri, database):
    """Sign in at once, in each turn that standard input names, and print it once that is done."""
    django_settings.configure(
        SECRET_KEY="a test's",
        INSTALLED_APPS=["django_mongo_sessions"],
        SESSION_ENGINE="django_mongo_sessions.backends.mongodb",
        MONGO_SESSIONS={"URI": uri, "DATABASE": database, "MAX_SESSIONS": LIMIT},
    )
    django.setup()
    count = AT_ONCE // PROCESSES
    with ThreadPoolExecutor(count) as pool:
        for line in sys.stdin:
            at_once(pool, int(line), count)
            print(int(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
