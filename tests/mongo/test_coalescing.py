"""What many need at the same moment goes out as one command, and each keeps its own fate."""

import asyncio
import gc
import os
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import pymongo
import pytest
from bson import Binary
from bson.errors import InvalidBSON, InvalidDocument
from pymongo import MongoClient, _csot
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WriteError,
    WTimeoutError,
)

from django_mongo_sessions.connection import clients
from django_mongo_sessions.connection.breaker import Gate
from django_mongo_sessions.mongo import coalescing, joint, operations, writes
from django_mongo_sessions.mongo.coalescing import ThreadQueue
from django_mongo_sessions.mongo.joint import Find, Update
from django_mongo_sessions.mongo.runner import Operation, arun_on, run_on
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection, end

FIRST, OTHER, NEW = b"first write.", b"other write.", b"new write..."
LATER = dates.utc_now().replace(year=2200)


def name(number):
    """Return the id of a session."""
    return bytes([number]) * 33


def document(number, write_id=FIRST, **fields):
    return {
        "_id": name(number),
        "payload": b"old",
        "expires_at": LATER,
        "revision": 0,
        "write_id": write_id,
        "user_id": "1",
        **fields,
    }


def test_the_next_calls_of_tasks_that_were_woken_together_go_out_together(
    mongod_engine, commands, tasks
):
    store(1, 2, 3)
    tasks.alongside(find(1), find(2), find(3))
    commands.sent.clear()

    async def gather(*numbers):
        return await asyncio.gather(*(arun_on(tasks.target, one(find(n))) for n in numbers))

    found = tasks.loop.run_until_complete(gather(1, 2, 3))
    assert [each["_id"] for each in found] == [name(1), name(2), name(3)]
    assert commands.names() == ["find"]
    assert tasks.queue(Find).under_way == 0

    tasks.loop.run_until_complete(gather(1))  # no other task called, which is remembered
    assert not tasks.queue(Find).has_company
    assert commands.names() == ["find"]


def test_the_timer_ends_with_the_first_of_those_that_wait(tasks):
    queue, script = on_loop(tasks, None), Script(tasks)
    first, second = entry_of(tasks, script), entry_of(tasks, script)
    first.until, second.until = (time.monotonic() + seconds for seconds in (1000, 500))

    async def wait():
        waiting = [asyncio.create_task(queue._wait(entry)) for entry in (first, second)]
        await asyncio.sleep(0)
        assert queue.timer_ends == second.until
        coalescing._wake(second)
        await waiting[1]
        queue._look_at_the_time()
        assert queue.timer_ends == first.until
        coalescing._wake(first)
        await waiting[0]
        queue._look_at_the_time()
        assert queue.timer is None

    tasks.loop.run_until_complete(wait())


def store(*numbers, **fields):
    collection().insert_many([document(number, **fields) for number in numbers])


def stored(number):
    return collection().find_one({"_id": name(number)})


def find(number):
    return operations.find(name(number))


def change(payload=b"new", **fields):
    fields = {"user_id": None, **fields}
    return documents.payload_update(NEW, 1, payload, LATER, LATER, fields)


def update(number, payload=b"new", **fields):
    return operations.update(name(number), FIRST, change(payload, **fields))


def insert(number, **fields):
    return operations.insert(document(number, **fields))


def one(operation):
    """Return steps of one operation."""
    return (yield operation)


def verb(given):
    """Return the steps of an operation, or these steps."""
    return one(given) if isinstance(given, Operation) else given


class Threads:
    """Calls in threads."""

    def __init__(self):
        self.target = clients.collection()

    def run(self, operation):
        return run_on(self.target, verb(operation))

    def alongside(self, *given, until=lambda: True):
        """Make these calls while another one of their kind is under way.

        They queue in this order, and it ends once `until()` is true. Returns results or errors.
        """
        kind = next(type(each.joint) for each in given if isinstance(each, Operation))
        goes_on, is_held = threading.Event(), threading.Event()

        def hold(collection):
            is_held.set()
            assert goes_on.wait(60)

        outcomes = [None] * len(given)

        def run(index, each):
            limit, each = each if isinstance(each, tuple) else (nullcontext(), each)
            try:
                with limit:
                    outcomes[index] = self.run(each)
            except BaseException as error:
                outcomes[index] = error

        held = Operation(hold, lambda reply: reply, joint=kind.__new__(kind))
        threads = [threading.Thread(target=self.run, args=(held,), daemon=True)]
        threads[0].start()
        assert is_held.wait(60)
        for index, each in enumerate(given):
            threads.append(threading.Thread(target=run, args=(index, each), daemon=True))
            before = len(self.queue(kind).waiting)
            threads[-1].start()
            while len(self.queue(kind).waiting) == before and threads[-1].is_alive():
                time.sleep(0.001)
        while not until():
            time.sleep(0.001)
        goes_on.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        return outcomes

    def queue(self, kind):
        return self.target.queues[kind]

    def close(self):
        pass


class Tasks:
    """Calls in the tasks of an event loop."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.target = self.loop.run_until_complete(clients.acollection())

    def run(self, operation):
        return self.loop.run_until_complete(arun_on(self.target, verb(operation)))

    def alongside(self, *given, until=lambda: True):
        """See Threads.alongside()."""
        kind = next(type(each.joint) for each in given if isinstance(each, Operation))
        goes_on = asyncio.Event()

        async def hold(collection):
            await goes_on.wait()

        async def run(each):
            limit, each = each if isinstance(each, tuple) else (nullcontext(), each)
            with limit:
                return await arun_on(self.target, verb(each))

        async def main():
            if queue := self.target.queues.get(kind):
                queue.has_company = False
            held = Operation(hold, lambda reply: reply, joint=kind.__new__(kind))
            holding = asyncio.create_task(run(held))
            await asyncio.sleep(0)
            self.tasks = [asyncio.create_task(run(each)) for each in given]
            for _ in range(5):
                await asyncio.sleep(0)
            while not until():
                await asyncio.sleep(0.001)
            goes_on.set()
            await holding
            return await asyncio.gather(*self.tasks, return_exceptions=True)

        return self.loop.run_until_complete(asyncio.wait_for(main(), 60))

    def queue(self, kind):
        return self.target.queues[kind]

    def close(self):
        end(self.loop)


@pytest.fixture
def patient(monkeypatch):
    """Let operations wait for a single call, and for as long as it takes."""
    monkeypatch.setattr(coalescing, "WIDTH", 1)
    monkeypatch.setattr(coalescing, "PATIENCE", 60)


@pytest.fixture
def settle_on(settings):
    """Set further keys of MONGO_SESSIONS."""

    def settle_on(**keys):
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **keys}

    return settle_on


@pytest.fixture(params=[Threads, Tasks])
def form(request, mongod_engine, commands, settle_on, patient):
    """One of the two forms, with a client that tells its commands."""
    settle_on(ASYNC="native", TIMEOUT=60)
    form = request.param()
    yield form
    form.close()


@pytest.fixture
def fail(failing_server, form, settle_on):
    """`fail("update", errorCode=238)` lets the next such command fail, on a server that can."""
    settle_on(URI=failing_server)
    form.close()
    form.__init__()
    collection().delete_many({})
    with MongoClient(failing_server) as client:

        def fail(command, times=1, **how):
            client.admin.command(
                "configureFailPoint",
                "failCommand",
                mode={"times": times},
                data={"failCommands": [command], **how},
            )

        yield fail
        client.admin.command("configureFailPoint", "failCommand", mode="off")


# Alone, or together


def test_a_call_that_meets_no_other_goes_out_alone(form, commands):
    store(1)
    form.run(find(1))
    form.run(update(1))
    form.run(insert(2))

    (_, found), (_, updated), (_, inserted) = commands.sent[-3:]
    assert found["filter"] == {"_id": name(1)}
    assert "projection" not in found
    assert updated["updates"][0]["q"] == {"_id": name(1), "write_id": FIRST}
    assert isinstance(updated["updates"][0]["u"], dict)
    assert len(inserted["documents"]) == 1
    assert {queue.under_way for queue in form.target.queues.values()} == {0}


def test_a_further_call_begins_while_a_full_batch_waits(form, commands, monkeypatch):
    store(*range(1, 6))
    monkeypatch.setattr(coalescing, "WIDTH", 2)
    monkeypatch.setattr(coalescing, "MAX_BATCH", 2)
    commands.sent.clear()

    found = form.alongside(*map(find, range(1, 6)), until=lambda: len(commands.replies) > 1)

    assert [each["_id"] for each in found] == [name(n) for n in range(1, 6)]
    assert form.queue(Find).under_way == 0


def test_loads_go_out_together(form, commands):
    store(1, 2)
    commands.sent.clear()

    one, two, missing, again = form.alongside(find(1), find(2), find(3), find(1))

    assert (one["_id"], two["_id"], missing, again) == (name(1), name(2), None, one)
    [(_, command)] = commands.sent
    assert sorted(command["filter"]["_id"]["$in"]) == [name(1), name(2), name(3)]
    assert "projection" not in command


def test_saves_go_out_together(form, commands):
    store(1, 2)
    store(3, write_id=OTHER)
    commands.sent.clear()

    assert form.alongside(update(1), update(2, extra={"a": 1}), update(3)) == [True, True, False]

    assert commands.names() == ["update"]
    assert (stored(1)["payload"], stored(1)["write_id"], stored(1)["revision"]) == (b"new", NEW, 1)
    assert stored(2)["extra"] == {"a": 1}
    assert stored(3)["payload"] == b"old"


@pytest.mark.parametrize("value", ["$payload", {"$add": [1, 2]}, ["$$ROOT"], True, 0, {"a": {}}])
def test_a_value_is_stored_as_it_is(form, value):
    store(1, 2, field={"other": 1})

    form.alongside(update(1, field=value), update(2, field=value))

    assert stored(1)["field"] == stored(2)["field"] == value


def test_a_field_that_is_unset_is_gone(form):
    store(1, 2)

    form.alongside(update(1), update(2, user_id="2"))

    assert "user_id" not in stored(1)
    assert stored(2)["user_id"] == "2"


def test_the_expiry_is_moved_together_with_saves(form, commands):
    store(1, 2)
    store(3, write_id=OTHER)
    touch = documents.expiry_update(LATER, LATER, {})
    commands.sent.clear()

    done = form.alongside(
        operations.update(name(1), FIRST, touch),
        update(2),
        operations.update(name(3), FIRST, touch),
    )

    assert done == [True, True, False]
    assert commands.names() == ["update"]
    assert (stored(1)["payload"], stored(1)["write_id"]) == (b"old", FIRST)
    assert "seen_at" in stored(1)
    assert "seen_at" not in stored(3)


def test_inserts_go_out_together(form, commands):
    store(3)
    commands.sent.clear()

    one, two, taken = form.alongside(insert(1), insert(2), insert(3))

    assert (one, two) == (True, True)
    assert isinstance(taken, DuplicateKeyError)
    assert taken.details["keyPattern"] == {"_id": 1}
    assert commands.names() == ["insert", "insert"]  # the one that is taken tells so by itself
    assert stored(1)["payload"] == stored(2)["payload"] == b"old"


def test_only_one_write_of_a_session_goes_out_in_a_command(form, commands):
    store(1, 2)
    commands.sent.clear()

    done = form.alongside(update(1), update(1, b"second"), update(2))

    assert sorted(done) == [False, True, True]
    assert done[2]
    assert [len(command["updates"]) for _, command in commands.sent] == [2, 1]


def test_nothing_waits_if_the_setting_says_so(form, settle_on):
    settle_on(COALESCE=False)
    form.close()
    form.__init__()

    assert form.target.queues is None
    assert form.run(find(1)) is None


def test_mongomock_makes_each_call(settings):
    settings.MONGO_SESSIONS = {"URI": "mongomock://"}

    assert clients.collection().queues is None


# How much


def test_a_command_has_so_many_operations(form, commands, monkeypatch):
    monkeypatch.setattr(coalescing, "MAX_BATCH", 3)

    form.alongside(*map(find, range(7)))

    wanted = [command["filter"]["_id"] for _, command in commands.sent]
    assert [len(ids["$in"]) for ids in wanted[:2]] == [3, 3]
    assert len(wanted) == 3


def test_a_command_has_so_many_bytes(form, commands, monkeypatch):
    monkeypatch.setattr(coalescing, "MAX_BYTES", 1_000)
    store(1, 2, 3)
    commands.sent.clear()

    assert form.alongside(*(update(number, b"x" * 400) for number in (1, 2, 3))) == [True] * 3

    assert [len(command["updates"]) for _, command in commands.sent] == [2, 1]


@pytest.mark.parametrize("alone", [{"payload": b"x" * 2_000}, {"extra": "x" * 2_000}])
def test_what_is_too_large_does_not_wait(form, commands, monkeypatch, alone):
    monkeypatch.setattr(coalescing, "MAX_BYTES", 1_000)
    store(1)
    commands.sent.clear()

    assert form.alongside(update(1, **alone), until=lambda: commands.replies) == [True]

    assert isinstance(commands.sent[0][1]["updates"][0]["u"], dict)


# Deadlines


def test_a_call_that_waits_for_too_long_goes_out_alone(form, commands, monkeypatch):
    monkeypatch.setattr(coalescing, "PATIENCE", 0.01)
    store(1)
    commands.sent.clear()

    [found] = form.alongside(find(1), until=lambda: commands.sent)

    assert found["_id"] == name(1)
    assert commands.sent[0][1]["filter"] == {"_id": name(1)}
    assert form.queue(Find).under_way == 0


def test_calls_that_hang_are_not_waited_for_any_more(form, commands, monkeypatch):
    store(1, 2, 3)
    queue = {}

    def until():
        queue.update(form.target.queues)
        return commands.sent

    commands.sent.clear()
    monkeypatch.setattr(coalescing, "PATIENCE", 0.01)
    form.alongside(find(1), until=until)
    turn = form.queue(Find).turn

    assert turn == 1
    assert form.run(find(2))["_id"] == name(2)
    assert form.queue(Find).under_way == 0


def test_a_deadline_passes_in_the_queue_too(form):
    form.run(find(1))  # or a connection would be given up while it is opened
    late = (pymongo.timeout(0.000_001), find(1))

    error, found = form.alongside(late, find(2))

    assert isinstance(error, PyMongoError)
    assert error.timeout
    assert found is None


class Script:
    """What the joint calls of a `Scripted` do, in either form."""

    def __init__(self, form):
        self.form, self.calls = form, []
        self.is_thread = isinstance(form, Threads)
        self.begun = threading.Event() if self.is_thread else asyncio.Event()
        self.goes_on = threading.Event() if self.is_thread else asyncio.Event()
        self.outcomes = lambda joints: [(each.number, None) for each in joints]
        self.hangs = False

    def now(self, joints):
        self.calls.append([each.number for each in joints])
        self.limits = _csot.get_timeout(), _csot.remaining()
        self.begun.set()

    def call(self, joints):
        if self.is_thread:
            self.now(joints)
            if self.hangs:
                assert self.goes_on.wait(60)
            return self.outcomes(joints)

        async def call():
            self.now(joints)
            if self.hangs:
                await self.goes_on.wait()
            return self.outcomes(joints)

        return call()

    def alone(self, number):
        """Return the reply to the call of one that is made alone."""
        self.calls.append(number)
        if self.is_thread:
            return number

        async def reply():
            return number

        return reply()

    def operation(self, number, kind=None):
        joint = (kind or ScriptedRead)(self, number)
        return Operation(lambda collection: self.alone(number), lambda reply: reply, joint=joint)


@dataclass(frozen=True)
class ScriptedRead:
    """A kind of operation whose joint calls do what a test says."""

    script: Any
    number: int
    is_write: ClassVar[bool] = False

    @property
    def document_id(self):
        return self.number

    def fields(self):
        return {}

    @staticmethod
    async def together(joints, collection, settle):
        return await settle(joints[0].script.call(joints))


class ScriptedWrite(ScriptedRead):
    is_write = True


def fails(error):
    def outcomes(joints):
        raise error

    return outcomes


@pytest.fixture
def script(form):
    return Script(form)


def test_a_joint_call_has_the_latest_deadline_of_those_on_board(form, script):
    short = (pymongo.timeout(20), script.operation(1))

    form.alongside(short, script.operation(2), (pymongo.timeout(40), script.operation(3)))

    assert script.calls == [[2, 1, 3]] if script.is_thread else [[1, 2, 3]]
    _, left = script.limits
    assert 40 < left <= 60


def test_a_joint_call_has_no_deadline_if_one_of_them_has_none(form, script, settle_on):
    settle_on(CLIENT_OPTIONS={"timeoutMS": 0})
    form.close()
    form.__init__()
    script = Script(form)

    form.alongside(script.operation(1), script.operation(2))

    assert script.limits == (None, None)


def test_a_client_may_have_a_deadline_of_its_own(form, script, settle_on):
    settle_on(CLIENT_OPTIONS={"timeoutMS": 30_000})
    form.close()
    form.__init__()
    script = Script(form)

    form.alongside(script.operation(1), script.operation(2))

    assert 20 < script.limits[1] <= 30


def test_who_is_on_board_waits_for_as_long_as_its_own_deadline(form, monkeypatch):
    monkeypatch.setattr(coalescing, "GRACE", 0)
    monkeypatch.setattr(coalescing, "PATIENCE", 0.2)
    script = Script(form)
    script.hangs = True
    goes_on = []

    class Ending:
        """Lets the joint call go on once the one with the short deadline has given up."""

        def __enter__(self):
            self.limit = pymongo.timeout(0.5)
            self.limit.__enter__()

        def __exit__(self, *error):
            self.limit.__exit__(*error)
            goes_on.append(error[0])
            script.goes_on.set()

    ended, other = form.alongside((Ending(), script.operation(1)), script.operation(2))

    assert isinstance(ended, NetworkTimeout)
    assert goes_on == [NetworkTimeout]
    assert other == 2
    assert len(script.calls) == 1


def test_a_thread_takes_nobody_along_who_may_wait_for_much_longer():
    queue = ThreadQueue(None)
    lead, soon, late = (
        coalescing._Entry(Script(None).operation(n), 0, s, None)
        for n, s in enumerate((5, 5.05, 60))
    )
    queue.waiting = dict.fromkeys([soon, late])

    assert queue._take([lead], lead.deadline + coalescing.GRACE) == [lead, soon]
    assert list(queue.waiting) == [late]


def test_a_thread_that_makes_the_call_lifts_its_own_deadline(form, script):
    if isinstance(form, Tasks):
        pytest.skip("a task of its own makes it")
    queue = ThreadQueue(form.target.collection)
    asleep = threading.Lock()
    asleep.acquire()
    lead, later = (
        coalescing._Entry(script.operation(n), 0, seconds, asleep)
        for n, seconds in enumerate((20, 20 + coalescing.GRACE / 2))
    )
    lead.turn, queue.under_way, queue.waiting = 0, 1, dict.fromkeys([lead, later])

    with pymongo.timeout(10):
        queue._lead(lead)

    assert script.calls == [[0, 1]]
    assert script.limits[1] > 10


def test_the_thread_with_the_latest_deadline_makes_the_call(form):
    if isinstance(form, Tasks):
        pytest.skip("a task of its own makes it")
    script, makers = Script(form), []
    script.outcomes = lambda joints: (
        makers.append(threading.current_thread())
        or [(threading.current_thread(), None) for _ in joints]
    )
    mine = Operation(
        lambda collection: None,
        lambda reply: reply is threading.current_thread(),
        joint=ScriptedRead(script, 1),
    )

    led = form.alongside((pymongo.timeout(20), mine), mine, (pymongo.timeout(30), mine))

    assert led == [False, True, False]


# Errors


KINDS = [ScriptedRead, ScriptedWrite]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("closed", {"errorLabels": ["RetryableWriteError"]}),
        OperationFailure("late", 50, {"errorLabels": ["RetryableWriteError"], "n": 0}),
        OperationFailure("Transaction numbers", 20, {"errorLabels": ["RetryableWriteError"]}),
    ],
)
def test_each_gets_an_error_of_its_own_if_the_reply_is_lost(form, script, kind, error):
    script.outcomes = fails(error)
    if kind is ScriptedRead and getattr(error, "code", None) == 20:
        pytest.skip("a read has no transaction number")

    errors = form.alongside(*(script.operation(n, kind) for n in range(3)))

    assert {type(each) for each in errors} == {type(error)}
    assert len({id(each) for each in [*errors, error]}) == 4
    assert all(each.has_error_label("RetryableWriteError") for each in errors)
    assert len({id(each.details) for each in errors}) == 3
    assert len(script.calls) == 1
    assert {each.__context__ for each in errors} == {None}


UNREACHABLE = 6  # what mongos says of a shard


@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("no", 13),
        OperationFailure("a shard", UNREACHABLE),
        InvalidBSON("odd"),
        KeyError("?"),
    ],
)
def test_each_read_is_repeated_alone_if_something_else_fails(form, script, error):
    script.outcomes = fails(error)

    assert form.alongside(*(script.operation(n) for n in range(3))) == [0, 1, 2]

    assert sorted(script.calls[1:]) == [0, 1, 2]
    assert form.queue(ScriptedRead).takes_joint_calls


def test_each_write_is_repeated_alone_if_the_server_has_not_begun(form, script):
    script.outcomes = fails(OperationFailure("not authorized", 13))

    assert form.alongside(*(script.operation(n, ScriptedWrite) for n in range(3))) == [0, 1, 2]

    assert form.queue(ScriptedWrite).takes_joint_calls


@pytest.mark.parametrize("error", [OperationFailure("interrupted", 11601), InvalidBSON("odd")])
def test_a_write_is_as_one_whose_reply_is_lost_if_it_is_unknown(form, script, error):
    script.outcomes = fails(error)

    errors = form.alongside(*(script.operation(n, ScriptedWrite) for n in range(3)))

    assert {type(each) for each in errors} == {AutoReconnect}
    assert len(set(map(id, errors))) == 3
    assert len(script.calls) == 1


class Replying:
    """A collection whose joint writes meet these errors."""

    def __init__(self, matched, *errors):
        self.details = {
            "nMatched": matched,
            "writeErrors": list(errors),
            "writeConcernErrors": [],
        }

    def bulk_write(self, statements, ordered):
        raise BulkWriteError(self.details)


@pytest.mark.parametrize("kind", [update, insert])
def test_a_statement_that_may_have_been_applied_all_the_same_is_not_repeated(kind):
    error = {"index": 1, "code": UNREACHABLE, "errmsg": "a shard", "op": {"a": "value"}}
    refused = {"index": 2, "code": 121, "errmsg": "a rule", "op": {}}
    joints = [kind(number).joint for number in range(3)]

    done = asyncio.run(
        type(joints[0]).together(joints, Replying(1, error, refused), coalescing._returned)
    )

    assert done[0][1] is None
    assert done[1][0] is None
    assert isinstance(done[1][1], WriteError)
    assert done[1][1].code == UNREACHABLE
    assert "value" not in str(done[1][1])
    assert done[2] is None


def test_one_that_is_left_over_gets_its_own_error(form, script, monkeypatch):
    monkeypatch.setattr(coalescing, "MAX_BATCH", 1)
    error = KeyError("its own")
    one = replace(script.operation(1), call=lambda collection: fails(error)(None))

    assert form.alongside(one) == [error]


def test_a_document_that_cannot_be_decoded_concerns_nobody_else(form, settle_on):
    settle_on(CLIENT_OPTIONS={"uuidRepresentation": "standard"})
    form.close()
    form.__init__()
    store(1, 2)
    uuid = Binary(b"short", 4)
    collection().update_one({"_id": name(2)}, {"$set": {"extra": uuid}})

    one, two = form.alongside(find(1), find(2))

    assert one["_id"] == name(1)
    assert isinstance(two, InvalidBSON)


@pytest.mark.parametrize(
    ("value", "error"),
    [(object(), InvalidDocument), (2**63, OverflowError), ("\ud800", UnicodeEncodeError)],
    ids=["object", "integer", "surrogate"],
)
def test_a_value_that_cannot_be_encoded_concerns_nobody_else(form, commands, value, error):
    store(1, 2, 3)
    commands.sent.clear()

    done = form.alongside(update(2), update(1, extra=value), update(3))

    assert (done[0], done[2]) == (True, True)
    assert isinstance(done[1], error)
    assert commands.names() == ["update"]
    assert stored(1)["payload"] == b"old"


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("depth", [100, 170, 250])
def test_a_value_that_is_nested_too_deeply_concerns_nobody_else(form, depth):
    store(1, 2, 3)

    done = form.alongside(update(2), update(1, extra=nested(depth)), update(3))

    assert (done[0], done[2]) == (True, True)
    assert (stored(1)["payload"] == b"new") == (done[1] is True)
    assert form.queue(Update).takes_joint_calls


# The server's own errors


def server_fails(form, fail, *given, **how):
    store(1, 2, 3)
    fail(**how)
    return form.alongside(*given)


def test_a_server_that_does_not_know_joint_writes_gets_them_one_by_one(
    form, fail, commands, caplog
):
    store(1, 2, 3, 4, 5)
    fail("update", errorCode=238)
    commands.sent.clear()

    assert form.alongside(update(1), update(2), update(3)) == [True] * 3
    assert not form.queue(Update).takes_joint_calls
    assert form.alongside(update(4), update(5), until=lambda: len(commands.sent) == 6) == [True] * 2

    sizes = [len(command["updates"]) for _, command in commands.sent]
    assert sizes == [3, 1, 1, 1, 1, 1]
    assert [record.message for record in caplog.records if "one command" in record.message] == [
        "MongoDB refuses writes of several sessions in one command (code 238), so each is sent on "
        "its own."
    ]


def test_what_waits_while_a_server_refuses_joint_writes_goes_out_alone_too(
    form, fail, commands, monkeypatch
):
    monkeypatch.setattr(coalescing, "MAX_BATCH", 2)
    store(1, 2, 3, 4, 5)
    fail("update", errorCode=238)
    commands.sent.clear()

    assert form.alongside(*map(update, range(1, 6))) == [True] * 5

    assert sorted(len(command["updates"]) for _, command in commands.sent) == [1] * 5 + [2]


def test_a_server_may_refuse_each_statement_of_a_joint_write(form, monkeypatch):
    store(1, 2)
    unknown = [{"$set": {"a": {"$unknown": 1}}}]  # an expression; MongoDB refuses the whole command
    monkeypatch.setattr(documents, "update_or_fail", lambda write_id, update: unknown)

    assert form.alongside(update(1), update(2)) == [True, True]

    assert not form.queue(Update).takes_joint_calls


def test_statements_that_all_fail_for_another_reason_do_not_end_joint_writes(form):
    store(1, 2)
    collection().database.command(
        "collMod", "sessions", validator={"extra": {"$not": {"$type": "int"}}}
    )
    try:
        errors = form.alongside(update(1, extra=1), update(2, extra=1))
    finally:
        collection().database.command("collMod", "sessions", validator={})

    assert [each.code for each in errors] == [121, 121]
    assert form.queue(Update).takes_joint_calls


def test_a_write_that_may_not_last_is_told_to_all(form, fail, commands):
    concern = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out"}
    store(1, 2)
    store(3, write_id=OTHER)
    fail("update", writeConcernError=concern)

    errors = form.alongside(update(1), update(2), update(3))

    assert {type(each) for each in errors} == {WTimeoutError}
    assert len(set(map(id, errors))) == 3
    assert (stored(1)["payload"], stored(2)["payload"]) == (b"new", b"new")


def test_a_write_whose_durability_the_server_cannot_tell_is_told_to_all(form, fail):
    fail("insert", writeConcernError={"code": 100, "errmsg": "not enough members"})

    errors = form.alongside(insert(1), insert(2))

    assert {(type(each).__name__, each.code) for each in errors} == {("WriteConcernError", 100)}


@pytest.mark.parametrize("command", ["update", "insert"])
def test_a_write_whose_connection_broke_is_looked_for(form, fail, commands, command):
    store(1, 2)
    fail(command, closeConnection=True)
    steps = {
        "update": lambda number: writes.update(name(number), FIRST, 0, change()),
        "insert": lambda number: writes.insert(document(number + 2)),
    }[command]
    kind = {"update": update, "insert": lambda number: insert(number + 2)}[command]
    lost = form.alongside(kind(1), kind(2))
    assert {type(each) for each in lost} == {AutoReconnect}

    fail(command, closeConnection=True)
    done = form.alongside(kind(9), steps(1), steps(2))

    # An insert is not repeated: the caller takes another key.
    assert done[1:] == ([True, True] if command == "update" else [False, False])


# Documents that are gone


def test_a_save_of_a_session_that_is_gone_is_told_so(form, commands):
    store(1, 3)
    commands.sent.clear()

    assert form.alongside(update(1), update(2), update(3)) == [True, False, True]

    assert commands.names() == ["update", "find"]


def between(monkeypatch, function):
    """Call a function between the joint write and the read that tells what is gone."""
    real = joint._find_missing

    async def find_missing(*args):
        function()
        await real(*args)

    monkeypatch.setattr(joint, "_find_missing", find_missing)


def test_a_session_that_is_deleted_after_its_save_has_ended(form, monkeypatch):
    store(1, 3)
    between(monkeypatch, lambda: collection().delete_one({"_id": name(1)}))

    assert form.alongside(update(1), update(2), update(3)) == [False, False, True]


def test_a_session_that_is_stored_anew_after_its_save_is_unknown(form, monkeypatch):
    store(1, 3)
    between(monkeypatch, lambda: store(2, write_id=OTHER))

    one, two, three = form.alongside(update(1), update(2), update(3))

    assert (one, three) == (True, True)
    assert isinstance(two, AutoReconnect)


def test_a_session_that_is_saved_again_before_it_is_looked_for_is_unknown(form, monkeypatch):
    store(1, 3)
    newer = {"$set": {"write_id": OTHER}}
    between(monkeypatch, lambda: collection().update_one({"_id": name(1)}, newer))

    one, two, three = form.alongside(update(1), update(2), update(3))

    assert isinstance(one, AutoReconnect)
    assert (two, three) == (False, True)


def test_a_touch_of_a_session_is_known_by_the_write_that_it_leaves(form):
    store(1)
    touch = documents.expiry_update(LATER, LATER, {})

    done = form.alongside(*(operations.update(name(n), FIRST, touch) for n in (1, 2)))

    assert done == [True, False]


def test_saves_are_unknown_if_it_cannot_be_read_what_is_gone(form, fail):
    store(1)
    store(3, write_id=OTHER)
    fail("find", errorCode=13)

    one, gone, overtaken = form.alongside(update(1), update(2), update(3))

    assert {type(one), type(gone)} == {AutoReconnect}
    assert one is not gone
    assert overtaken is False


# Giving up


def test_a_task_that_is_cancelled_leaves_the_queue(mongod_engine, commands, settle_on, patient):
    settle_on(ASYNC="native", TIMEOUT=60)  # after the listener
    form = Tasks()

    def cancel():
        form.tasks[1].cancel()
        return form.tasks[1].done()

    one, cancelled, three = form.alongside(find(1), find(2), find(3), until=cancel)

    assert (one, three) == (None, None)
    assert isinstance(cancelled, asyncio.CancelledError)
    [(_, command)] = commands.sent
    assert sorted(command["filter"]["_id"]["$in"]) == [name(1), name(3)]
    form.close()


@pytest.mark.parametrize("whose", [0, 1, 2])
def test_a_task_that_is_cancelled_on_board_ends_nobody_else(
    mongod_engine, settle_on, patient, whose
):
    settle_on(ASYNC="native", TIMEOUT=60)
    form = Tasks()
    script = Script(form)
    script.hangs = True

    async def cancel():
        await script.begun.wait()
        form.tasks[whose].cancel()
        await asyncio.sleep(0)
        script.goes_on.set()

    async def main():
        return asyncio.create_task(cancel())

    cancelling = form.loop.run_until_complete(main())
    ends = form.alongside(*(script.operation(n, ScriptedWrite) for n in range(3)))

    assert isinstance(ends.pop(whose), asyncio.CancelledError)
    assert ends == [n for n in range(3) if n != whose]
    assert cancelling.done()
    assert form.queue(ScriptedWrite).under_way == 0
    form.close()


def test_a_call_alone_that_is_cancelled_lets_the_next_one_go_on(mongod_engine, settle_on, patient):
    settle_on(ASYNC="native", TIMEOUT=60)
    form = Tasks()

    async def hang(collection):
        await asyncio.sleep(60)

    async def main():
        held = Operation(hang, lambda reply: reply, joint=Find(name(1)))
        holding = asyncio.create_task(arun_on(form.target, one(held)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(arun_on(form.target, one(find(2))))
        await asyncio.sleep(0)
        holding.cancel()
        return await waiting

    assert form.loop.run_until_complete(asyncio.wait_for(main(), 30)) is None
    assert form.queue(Find).under_way == 0
    form.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_on_board_of_a_call_that_is_given_up_is_told_so(form, script, kind):
    script.outcomes = fails(KeyboardInterrupt() if script.is_thread else asyncio.CancelledError())

    ends = form.alongside(*(script.operation(n, kind) for n in range(3)))

    if script.is_thread:
        assert isinstance(ends.pop(), KeyboardInterrupt)  # the thread that made the call
    if kind is ScriptedWrite:
        assert {type(each) for each in ends} == {AutoReconnect}
    else:
        assert ends == [0, 1, 2][: len(ends)]
    assert form.queue(kind).under_way == 0


class Interrupted:
    """A lock on which a thread is interrupted while it sleeps."""

    def __init__(self, then=lambda: None):
        self.then, self.slept = then, False

    def acquire(self, timeout=None):
        if timeout is not None:
            self.then()
            raise KeyboardInterrupt

    def release(self):
        pass


@pytest.mark.parametrize("is_leader", [False, True])
def test_a_thread_that_is_interrupted_leaves_the_queue(form, is_leader):
    if isinstance(form, Tasks):
        pytest.skip("tasks are cancelled")
    queue = ThreadQueue(form.target.collection)
    queue.under_way = 1
    entry = coalescing._Entry(find(1), 0, 60, Interrupted())
    if is_leader:
        entry.woken.then = lambda: queue._end(0)
    queue.waiting[entry] = None

    with pytest.raises(KeyboardInterrupt):
        queue._wait(entry)

    assert queue.waiting == {}
    assert queue.under_way == (0 if is_leader else 1)


def test_a_thread_is_made_to_lead_just_when_it_loses_patience(form):
    if isinstance(form, Tasks):
        pytest.skip("a task of its own makes the call")
    queue = ThreadQueue(form.target.collection)
    queue.under_way = 1

    class Late(Interrupted):
        def acquire(self, timeout=None):
            if timeout is not None:
                queue._end(0)
            return False

    entry = coalescing._Entry(find(1), 0, 60, Late())
    queue.waiting[entry] = None

    queue._wait(entry)

    assert entry.result() is None
    assert queue.under_way == 0


def test_a_thread_may_be_woken_before_it_sleeps(form, monkeypatch):
    if isinstance(form, Tasks):
        pytest.skip("a future can be done before it is awaited")
    queue = ThreadQueue(form.target.collection)
    queue.under_way = 1
    wait = queue._wait

    def late(entry):
        queue._end(0)
        wait(entry)

    monkeypatch.setattr(queue, "_wait", late)

    assert queue.call(find(1), 60) is None
    assert queue.under_way == 0


def test_a_finalizer_may_need_a_session_while_an_operation_joins_the_queue(form, monkeypatch):
    if isinstance(form, Tasks):
        pytest.skip("tasks share no lock")
    monkeypatch.setattr(coalescing, "PATIENCE", 0.01)
    queue = ThreadQueue(form.target.collection)
    queue.under_way = 1
    script, found = Script(form), []

    class Finalized(ScriptedRead):
        def fields(self):  # the garbage collector may run at any moment
            found.append(queue.call(find(1), 60))
            return {}

    thread = threading.Thread(
        target=lambda: found.append(queue.call(script.operation(2, Finalized), 60)), daemon=True
    )
    thread.start()
    thread.join(10)

    assert found == [None, 2]


def test_a_finalizer_that_interrupts_a_change_of_the_queue_leaves_it_as_it_is(form, monkeypatch):
    if isinstance(form, Tasks):
        pytest.skip("tasks share no lock")
    monkeypatch.setattr(coalescing, "PATIENCE", 0.01)
    found = []

    class Interrupting(ThreadQueue):
        now, is_interrupted = 0, False

        @property
        def turn(self):  # _begin() and _end() read it in the middle of a change
            if not self.is_interrupted:
                self.is_interrupted = True
                found.append(self.call(find(1), 60))
                self.is_interrupted = False
            return self.now

        @turn.setter
        def turn(self, value):
            self.now = value

    queue = Interrupting(form.target.collection)

    assert queue.call(find(2), 60) is None
    assert found == [None, None]
    assert queue.under_way == 0


def test_a_call_of_an_earlier_turn_lets_nobody_go_on(form, script, monkeypatch):
    queue = (ThreadQueue if script.is_thread else partial(on_loop, form))(form.target.collection)
    entry = coalescing._Entry(script.operation(1), 0, 60, Interrupted())
    queue.waiting[entry] = None
    queue.under_way, queue.turn = 1, 2

    queue._end(1)
    queue._end(None)

    assert not entry.is_leader
    assert queue.under_way == 1


@pytest.fixture
def tasks(mongod_engine, settle_on, patient):
    """Calls in tasks."""
    settle_on(ASYNC="native", TIMEOUT=60)
    form = Tasks()
    yield form
    form.close()


def entry_of(form, script):
    return coalescing._Entry(script.operation(1), 0, 60, form.loop.create_future())


def test_a_task_that_has_its_reply_does_not_time_out(tasks):
    queue = on_loop(tasks, None)
    entry = entry_of(tasks, Script(tasks))
    entry.outcome, entry.is_on_board, entry.until = ("reply", None), True, 0
    coalescing._wake(entry)
    queue.entries.add(entry)

    queue._look_at_the_time()

    assert entry.result() == "reply"
    assert queue.timer is None


def test_a_joint_call_that_nobody_waits_for_any_more_is_not_made(tasks):
    queue, script = on_loop(tasks, None), Script(tasks)
    entry = entry_of(tasks, script)
    queue.under_way, queue.waiting[entry] = 1, None
    queue._end(0)
    del queue.waiting[entry]

    tasks.run(find(1))

    assert script.calls == []
    assert queue.under_way == 0


def on_loop(form, collection):
    async def make():
        return coalescing.TaskQueue(collection)

    return form.loop.run_until_complete(make())


# Loops, forks, many threads


@pytest.fixture
def quiet(caplog, recwarn):
    """Fail if asyncio complains of what a loop has left behind."""
    yield
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
    assert [str(each.message) for each in recwarn if "never awaited" in str(each.message)] == []


@pytest.mark.parametrize("is_hanging", [False, True])
def test_a_loop_that_ends_leaves_nothing_behind(mongod_engine, settle_on, quiet, is_hanging):
    settle_on(ASYNC="native", TIMEOUT=60)
    left = []

    async def main():
        target = await clients.acollection()
        script = Script(Tasks.__new__(Tasks))
        script.hangs = is_hanging
        for number in range(5):
            steps = one(script.operation(number, ScriptedWrite))
            left.append(asyncio.create_task(arun_on(target, steps)))
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())

    assert all(task.done() for task in left)


def test_only_the_call_may_be_cancelled_and_what_waits_goes_on(mongod_engine, settle_on, patient):
    settle_on(ASYNC="native", TIMEOUT=60)
    form = Tasks()
    script = Script(form)

    async def cancel():
        while not (tasks := form.queue(ScriptedRead).tasks):
            await asyncio.sleep(0)
        next(iter(tasks)).cancel()  # before it has begun

    async def main():
        return asyncio.create_task(cancel())

    held = script.operation(0)
    form.run(held)
    form.loop.run_until_complete(main())

    assert form.alongside(*(script.operation(n) for n in range(3))) == [0, 1, 2]
    assert form.queue(ScriptedRead).under_way == 0
    form.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_of_a_fork_waits_for_no_call_of_its_parent(mongod_engine, settle_on, patient):
    settle_on(TIMEOUT=60)
    form = Threads()

    def fork():
        held = form.queue(Find)
        with held.lock:  # as another thread may hold it
            child = os.fork()
        if child == 0:
            status = 1
            with_nobody = run_on(clients.collection(), one(find(1)))
            if with_nobody is None and clients.collection().queues is not form.target.queues:
                status = 0
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert form.alongside(find(2), until=fork) == [None]


def test_64_threads_lose_nothing(mongod_engine, commands, settle_on):
    settle_on(TIMEOUT=60)
    target = clients.collection()
    collection().insert_many([document(number, count=0) for number in range(8)])
    commands.sent.clear()

    def count(number):
        for _ in range(4):
            while True:
                found = run_on(target, one(find(number)))
                fields = {"count": found["count"] + 1}
                changed = documents.payload_update(
                    os.urandom(12), found["revision"] + 1, b"new", LATER, LATER, fields
                )
                steps = writes.update(name(number), found["write_id"], found["revision"], changed)
                if run_on(target, steps):
                    break

    threads = [threading.Thread(target=count, args=(number % 8,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert [stored(number)["count"] for number in range(8)] == [32] * 8
    assert max(len(each["updates"]) for kind, each in commands.sent if kind == "update") > 1
    assert {queue.under_way for queue in target.queues.values()} == {0}
    assert not any(queue.waiting for queue in target.queues.values())


# Others that are told


class Noting(Gate):
    """Notes what passes it."""

    def __init__(self):
        self.entered, self.left = 0, []

    def enter(self, began):
        self.entered += 1

    def leave(self, began, error=None):
        self.left.append(error)


def test_a_gate_is_told_how_each_operation_ended(form, script):
    gate = Noting()
    form.target = form.target._replace(gate=gate)
    script.outcomes = lambda joints: [(None, AutoReconnect("closed")), *[(1, None)] * 2]

    form.alongside(*(script.operation(n) for n in range(3)))

    assert gate.entered == 4
    assert sorted(map(type, gate.left), key=str) == [type(None)] * 3 + [AutoReconnect]


def test_an_error_of_joint_writes_shows_no_value(form, fail):
    secret = "a value that nobody may see"
    collection().create_index("account", unique=True, sparse=True)
    store(1, 2)
    store(3, account=secret)

    errors = form.alongside(update(1, account=secret), update(2, account=secret))
    collection().drop_indexes()

    for error in errors:
        assert isinstance(error, DuplicateKeyError)
        while error is not None:
            assert secret not in repr(error) + str(getattr(error, "details", ""))
            error = error.__cause__ or error.__context__
