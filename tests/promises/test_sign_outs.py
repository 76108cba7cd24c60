"""After a flush nothing of the session is stored, whatever else was being done with it."""

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError
from pymongo.errors import DuplicateKeyError, NetworkTimeout

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.storage import documents
from tests.conftest import collection, count_sessions
from tests.promises.scheduler import scheduled
from tests.promises.test_lost_replies import undone


def new():
    """Return a store of a session that signs in and is not stored yet."""
    store = SessionStore()
    store[SESSION_KEY] = "7"
    return store


def known():
    """Return a store that has loaded a session which is signed in."""
    store = new()
    store.save()
    store = SessionStore(store.session_key)
    store._get_session()
    return store


def save(store):
    store["n"] = 1
    return store.asave()


def mutate(store):
    return store.amutate(lambda data: data.update(n=1))


def create(store):
    return store.acreate()


def cycle_key(store):
    return store.acycle_key()


MAKERS = pytest.mark.parametrize("make", [new, known])
VERBS = pytest.mark.parametrize("verb", [save, mutate, create, cycle_key])
STEPS = range(12)  # more than any of the verbs waits


@MAKERS
@VERBS
def test_a_flush_ends_what_another_task_was_storing(scheduler, make, verb):
    for steps in STEPS:
        collection().delete_many({})
        store = make()
        task = scheduler.start(verb(store))
        for _ in range(steps):
            scheduler.step(task)
        was_done = task.done()
        flush = scheduler.start(store.aflush())

        scheduler.finish(task, flush)

        assert store.session_key is None
        assert count_sessions() == 0
        if was_done:
            break
    assert was_done


@VERBS
def test_what_a_task_wants_to_store_behind_a_flush_is_not_stored(scheduler, verb):
    store = known()
    flush = scheduler.start(store.aflush())
    task = scheduler.start(verb(store))

    [error, _] = scheduler.finish(task, flush)

    assert isinstance(error, UpdateError)
    assert count_sessions() == 0


@MAKERS
@VERBS
def test_a_blocking_flush_ends_what_a_task_is_storing(scheduler, make, verb):
    for steps in STEPS:
        collection().delete_many({})
        store = make()
        task = scheduler.start(verb(store))
        for _ in range(steps):
            scheduler.step(task)
        was_done = task.done()
        store.flush()

        [error] = scheduler.finish(task)

        assert was_done or isinstance(error, UpdateError)
        assert store.session_key is None
        assert count_sessions() == 0
        if was_done:
            break
    assert was_done


@MAKERS
@VERBS
def test_a_flush_ends_what_a_cancelled_task_has_left(scheduler, make, verb):
    for steps in STEPS:
        collection().delete_many({})
        store = make()
        task = scheduler.start(verb(store))
        for _ in range(steps):
            scheduler.step(task)
        was_done = task.done()
        task.cancel()

        scheduler.finish(scheduler.start(store.aflush()))

        assert store.session_key is None
        assert count_sessions() == 0
        if was_done:
            break
    assert was_done


@pytest.fixture
def inserts(monkeypatch):
    """The documents that are sent to be inserted."""
    sent, insert = [], operations.insert

    def kept(document):
        sent.append(document)
        return insert(document)

    monkeypatch.setattr(operations, "insert", kept)
    return sent


@pytest.mark.parametrize("verb", [save, create, cycle_key])
def test_an_insert_that_arrives_after_the_flush_is_no_session(engine, verb, inserts):
    with scheduled() as scheduler:
        store = new()
        task = scheduler.start(verb(store))
        task.cancel()
        scheduler.finish(scheduler.start(store.aflush()))

    with pytest.raises(DuplicateKeyError):
        collection().insert_one(inserts[0])
    assert count_sessions() == 0


def test_nor_is_one_under_a_given_key(do, inserts, lose):
    store = SessionStore("0123456789abcdefghijklmnopqrstuv")
    store._session_cache = {SESSION_KEY: "7"}
    lose("insert", undone, NetworkTimeout("no answer"))
    with pytest.raises(NetworkTimeout):
        do(store, "save", must_create=True)

    do(store, "flush")

    with pytest.raises(DuplicateKeyError):
        collection().insert_one(inserts[0])
    assert count_sessions() == 0


@pytest.mark.parametrize("verb", ["save", "create", "cycle_key"])
def test_an_insert_that_begins_as_another_thread_flushes_the_session_leaves_nothing(do, verb):
    class Flushed(SessionStore):
        """A session that another thread flushes while this one makes its document."""

        def to_document(self, data):
            self.flush()
            return {}

    store = Flushed()
    store[SESSION_KEY] = "7"

    with pytest.raises(UpdateError):
        do(store, verb)

    assert count_sessions() == 0


# Sessions that have moved


@pytest.fixture
def moved(do, stored):
    """A store that has loaded a session which has moved since; and the one that has moved it."""
    mover = stored(**{SESSION_KEY: "7"})
    early = SessionStore(mover.session_key)
    do(early, "_get_session")
    do(mover, "cycle_key")
    return early, mover


@pytest.mark.parametrize("times", [0, 1])
@pytest.mark.parametrize("verb", ["flush", "delete"])
def test_a_request_that_began_before_a_session_moved_signs_it_out(do, moved, verb, times):
    early, mover = moved
    for _ in range(times):
        do(mover, "cycle_key")

    do(early, verb)

    assert count_sessions() == 0


def test_the_pointer_stays_for_whoever_signs_out_next(do, moved):
    early, _ = moved
    do(SessionStore(early.session_key), "delete")

    assert collection().count_documents({"revision": -1}) == 1


def test_a_pointer_is_no_session_to_any_other_verb(do, moved):
    early, mover = moved
    old = early.session_key

    assert do(SessionStore(old), "load") == {}
    assert not do(mover, "exists", old)
    assert do(SessionStore(old), "describe") is None
    early["a"] = 1
    with pytest.raises(UpdateError):
        do(early, "save")
    taken = SessionStore(old)
    taken._session_cache = {}
    with pytest.raises(CreateError):
        do(taken, "save", must_create=True)
    assert do(SessionStore(mover.session_key), "load") == {SESSION_KEY: "7"}


@pytest.mark.parametrize("change", [{}, {"payload": b""}, {"payload": b"\1forged"}])
@pytest.mark.usefixtures("moved")
def test_a_pointer_that_was_copied_or_forged_leads_nowhere(do, change):
    [marker] = collection().find({"revision": -1})
    stranger = "0123456789abcdefghijklmnopqrstuv"
    collection().insert_one({**marker, "_id": documents.document_id(stranger), **change})

    do(SessionStore(stranger), "flush")

    assert count_sessions() == 1
