"""Whoever ends all sessions of a user ends them, whatever their requests do at the same moment."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.engine import signed_in
from django_mongo_sessions.mongo import operations
from tests.conftest import IS_LONG, collection

USER = "7"
ROUNDS = 200 if IS_LONG else 10
STEPS = range(12)  # more than any of the verbs waits
# After these steps of a revocation, the server has been asked for nothing, for the sessions, and to
# delete them. At the odd ones, only a reply is still to come.
MEANWHILE = range(5) if IS_LONG else (0, 2, 4)


def known():
    """Return a store that has loaded a session of the user."""
    store = SessionStore()
    store[SESSION_KEY] = USER
    store.save()
    store = SessionStore(store.session_key)
    store._get_session()
    return store


def sessions():
    """Return how many documents of the user there are."""
    return collection().count_documents({"user_id": USER})


def cycle_key(store):
    store.cycle_key()


async def acycle_key(store):
    await store.acycle_key()


def login(store):
    """Do what Django's login() does to a session of the same user, and save as the middleware."""
    store.cycle_key()
    store[SESSION_KEY] = USER
    store["login"] = 1
    store.save()


async def alogin(store):
    await store.acycle_key()
    store[SESSION_KEY] = USER
    store["login"] = 1
    await store.asave()


def mutate(store):
    store.mutate(lambda data: data.update(n=1))


async def amutate(store):
    await store.amutate(lambda data: data.update(n=1))


def save(store):
    store["n"] = 1
    store.save()


async def asave(store):
    store["n"] = 1
    await store.asave()


VERBS = [(cycle_key, acycle_key), (login, alogin), (mutate, amutate), (save, asave)]


@pytest.mark.untraced
@pytest.mark.parametrize("verb", [pair[1] for pair in VERBS])
def test_a_verb_at_any_step_leaves_no_session_behind(scheduler, verb):
    for before in STEPS:
        for meanwhile in MEANWHILE:
            collection().delete_many({})
            store = known()
            task = scheduler.start(verb(store))
            for _ in range(before):
                scheduler.step(task)
            was_done = task.done()
            revoking = scheduler.start(users.arevoke_all_sessions(USER))
            for _ in range(meanwhile):
                scheduler.step(revoking)

            error, count = scheduler.finish(task, revoking)

            assert sessions() == 0
            assert count in (1, 2)  # while it moves, it has two documents
            assert error is None or isinstance(error, UpdateError)
        if was_done:
            break
    assert was_done


def test_a_session_that_moves_between_the_list_and_its_end_is_looked_for_again(do, before):
    store = known()
    before("delete_of_user", store.cycle_key)

    assert do(users, "revoke_all_sessions", USER) == 1

    assert sessions() == 0


def test_one_that_moves_before_it_is_ended_by_its_id_is_not_said_to_have_ended(do, before):
    store = known()
    [session] = users.list_sessions(USER)
    before("delete_of_user", store.cycle_key)

    assert do(users, "revoke_session", USER, session.id) is None

    assert store.exists(store.session_key)


def test_a_search_that_finds_the_session_under_yet_another_key_ends_some_time(do, monkeypatch):
    store = known()
    delete, searches = operations.delete_of_user, []

    def meanwhile(*args):
        store.cycle_key()
        searches.append(args)
        return delete(*args)

    monkeypatch.setattr(operations, "delete_of_user", meanwhile)
    monkeypatch.setattr(signed_in, "_REVOKE_ATTEMPTS", 5)

    assert do(users, "revoke_all_sessions", USER) == 0

    assert len(searches) == 5
    assert store.exists(store.session_key)


def outcome(call, *args):
    try:
        call(*args)
    except UpdateError as error:
        return error
    return None


async def aoutcome(coroutine):
    try:
        await coroutine
    except UpdateError as error:
        return error
    return None


def check(stores, outcomes):
    """Assert that nothing is left, and that what has not ended in time says so."""
    assert sessions() == 0
    for store in stores:
        assert not SessionStore(store.session_key).load()
        assert not store.session_key or not store.exists(store.session_key)
    assert all(each is None or isinstance(each, UpdateError) for each in outcomes)


def test_threads_that_use_the_sessions_leave_none_behind(mongod_engine):
    verbs = [pair[0] for pair in VERBS] * 2
    barrier = threading.Barrier(len(verbs) + 1)

    def race(call, *args):
        barrier.wait()
        return outcome(call, *args)

    with ThreadPoolExecutor(len(verbs) + 1) as pool:
        for _ in range(ROUNDS):
            stores = [known() for _ in verbs]
            work = [pool.submit(race, *pair) for pair in zip(verbs, stores, strict=True)]
            revoking = pool.submit(race, users.revoke_all_sessions, USER)

            outcomes = [each.result() for each in work]
            revoking.result()

            check(stores, outcomes)


def test_tasks_that_use_the_sessions_leave_none_behind(mongod_engine, monkeypatch):
    monkeypatch.setattr(clients, "PROMOTION_AGE", 0)
    verbs = [pair[1] for pair in VERBS] * 2

    async def race(stores):
        barrier = asyncio.Event()

        async def started(coroutine):
            await barrier.wait()
            return await aoutcome(coroutine)

        work = [started(verb(store)) for verb, store in zip(verbs, stores, strict=True)]
        # In the middle, so that some verbs have sent their first command before, and some have not.
        work.insert(len(work) // 2, started(users.arevoke_all_sessions(USER)))
        tasks = [asyncio.create_task(each) for each in work]
        barrier.set()
        return await asyncio.gather(*tasks)

    async def rounds():
        for _ in range(ROUNDS):
            stores = [known() for _ in verbs]
            outcomes = await race(stores)
            check(stores, outcomes)

    asyncio.run(rounds())


def test_a_session_that_keeps_moving_does_not_escape(mongod_engine):
    """More than one move at a time: each end of a list meets the next key."""
    is_over = threading.Event()

    def moves(store):
        while not is_over.is_set() and outcome(cycle_key, store) is None:
            pass

    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            is_over.clear()
            stores = [known(), known()]
            work = [pool.submit(moves, store) for store in stores]
            try:
                users.revoke_all_sessions(USER)
            finally:
                is_over.set()

            outcomes = [each.result() for each in work]
            check(stores, outcomes)
