"""Send what many tasks or threads need at the same moment as one command.

A call of PyMongo's costs several times what the server and the network take for it. So while calls
of one kind are under way, further operations of that kind wait in a queue of their client, and as
soon as one of those calls returns, all that have queued go out together. An operation that finds no
call under way does not wait: it goes out alone, as it does without a queue.

Each operation keeps its own fate: its deadline, its error, its cancellation. Nobody waits in a
queue for long, and whatever cannot be told exactly from a joint reply is called alone:

    call() ──▶ alone ◀── waited too long, or too large ── waiting ◀── call(), while others go on
                 ▲                                           │
                 └── the joint call failed, and did nothing ─┤ _take()
                                                             ▼
            reply, or the error of its own call ◀──────── on board

A joint write is exact. A statement of an `update` command that has lost its race *fails*, because
the server reports errors one by one, but matched documents only as a total.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import bson
import pymongo
from pymongo import InsertOne, UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)
from pymongo.results import InsertOneResult, UpdateResult

from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.connection.errors import (
    is_outage,
    may_be_unsupported,
    reply_was_lost,
    was_not_begun,
)
from django_mongo_sessions.storage import documents

# Calls of one kind that are under way before an operation waits. With two, one is on its way while
# the reply to the other is dealt with: 64 tasks, and 8 or 16 threads, were faster than with one.
WIDTH = 2
MAX_BATCH = 100  # operations
MAX_BYTES = 1_000_000  # of the statements of a batch together
# Seconds in a queue, and never more than half of the time that an operation has. Then it is called
# alone: a server that hangs costs it little more time than without a queue.
PATIENCE = 1.0
# Seconds that an operation waits beyond its deadline for the error that the joint call meets, which
# runs with the latest deadline.
GRACE = 0.1
_LONGEST_SLEEP = 1_000_000.0  # seconds, of an operation without a deadline

logger = logging.getLogger("django_mongo_sessions")

# The reply to an operation, or its error. None: it is to be called alone.
Outcome = tuple[Any, Exception | None] | None
# Awaits what an asynchronous collection returns, and passes on what a blocking one has returned.
Settle = Callable[[Any], Awaitable[Any]]
# How many seconds the caller has left, in its context; None if there is no limit.
Remaining = Callable[[], float | None]


# What can be joined


@dataclass(frozen=True)
class Find:
    """Read one document; None if there is none."""

    document_id: bytes

    is_write: ClassVar[bool] = False

    def fields(self) -> Mapping[str, Any]:
        """Return what counts as its size."""
        return {}

    @staticmethod
    async def together(finds: list[Find], collection: Any, settle: Settle) -> list[Outcome]:
        """Read the documents of these, and return one outcome for each."""
        wanted = {"_id": {"$in": list({each.document_id for each in finds})}}
        found = await settle(collection.find(wanted).to_list())
        by_id = {document["_id"]: document for document in found}
        return [(by_id.get(each.document_id), None) for each in finds]


@dataclass(frozen=True)
class Insert:
    """Insert one document."""

    document: Mapping[str, Any]

    is_write: ClassVar[bool] = True

    @property
    def document_id(self) -> bytes:
        """The id of the document."""
        return self.document["_id"]  # type: ignore[no-any-return]

    def fields(self) -> Mapping[str, Any]:
        """Return what counts as its size."""
        return self.document

    @staticmethod
    async def together(inserts: list[Insert], collection: Any, settle: Settle) -> list[Outcome]:
        """Insert the documents of these, and return one outcome for each."""
        done = await _write(collection, [InsertOne(each.document) for each in inserts], settle)
        outcomes: list[Outcome] = [
            (InsertOneResult(each.document_id, True), None) for each in inserts
        ]
        for error in done["writeErrors"]:
            outcomes[error["index"]] = _outcome(error)
        return outcomes


@dataclass(frozen=True)
class Update:
    """Change one document if that write was its last."""

    document_id: bytes
    write_id: bytes
    change: Mapping[str, Any]  # `$set`, and perhaps `$unset`

    is_write: ClassVar[bool] = True

    def fields(self) -> Mapping[str, Any]:
        """Return what counts as its size."""
        return self.change["$set"]  # type: ignore[no-any-return]

    @staticmethod
    async def together(updates: list[Update], collection: Any, settle: Settle) -> list[Outcome]:
        """Make the changes of these, and return one outcome for each."""
        statements = [
            UpdateOne(
                {"_id": each.document_id},
                documents.update_or_fail(each.write_id, each.change),
            )
            for each in updates
        ]
        done = await _write(collection, statements, settle)
        outcomes: list[Outcome] = [_MATCHED] * len(updates)
        for error in done["writeErrors"]:
            was_overtaken = documents.was_overtaken(error)
            outcomes[error["index"]] = _UNMATCHED if was_overtaken else _outcome(error)
        if not any(outcomes):
            refusal = OperationFailure(
                "all statements were refused", done["writeErrors"][0]["code"]
            )
            if was_not_begun(refusal):  # the server does not know such updates
                raise refusal
        if done["nMatched"] < outcomes.count(_MATCHED):
            await _find_missing(updates, outcomes, collection, settle)
        return outcomes


Joint = Find | Insert | Update

_WRITE_CONCERN_TIMEOUT = 64
_MATCHED: Outcome = UpdateResult({"n": 1}, True), None
_UNMATCHED: Outcome = UpdateResult({"n": 0}, True), None


async def _write(collection: Any, statements: list[Any], settle: Settle) -> Mapping[str, Any]:
    """Send statements as one command; return the counts and the errors of PyMongo's bulk API.

    Raises WriteConcernError if their durability is unknown, which then is so for all of them.
    """
    try:
        done = (await settle(collection.bulk_write(statements, ordered=False))).bulk_api_result
    except BulkWriteError as error:
        done = error.details
    if unsure := done["writeConcernErrors"]:
        details = unsure[-1]
        kind = WTimeoutError if details.get("code") == _WRITE_CONCERN_TIMEOUT else WriteConcernError
        raise kind(details.get("errmsg", ""), details.get("code"), details)
    return done  # type: ignore[no-any-return]


def _outcome(error: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a statement that has failed: its own call tells why.

    But if mongos has lost the connection to a shard, the statement may have been applied.
    """
    details = {name: value for name, value in error.items() if name != "op"}
    failure = WriteError(details.get("errmsg", ""), details.get("code"), details)
    return (None, failure) if is_outage(failure) else None


async def _find_missing(
    updates: list[Update], outcomes: list[Outcome], collection: Any, settle: Settle
) -> None:
    """Correct the outcomes of updates that seem to have matched, some of which have not.

    A document that is missing now was deleted before the update or after it: the session has ended
    either way. One that bears this update's identity was updated. One that bears another may have
    been missing and inserted since, or have been overwritten: its update is as one whose reply was
    lost.
    """
    unsure = [index for index, outcome in enumerate(outcomes) if outcome is _MATCHED]
    wanted = {"_id": {"$in": [updates[index].document_id for index in unsure]}}
    try:
        found = await settle(collection.find(wanted, {"write_id": True}).to_list())
    except Exception as error:
        for index in unsure:
            outcomes[index] = None, _lost_reply(type(error).__name__)
        return
    there = {document["_id"]: document.get("write_id") for document in found}
    for index in unsure:
        update = updates[index]
        if update.document_id not in there:
            outcomes[index] = _UNMATCHED
        elif there[update.document_id] != update.change["$set"].get("write_id", update.write_id):
            outcomes[index] = None, _lost_reply("another write followed")


def _lost_reply(reason: str) -> AutoReconnect:
    """Return the error of a write of which it is unknown whether it was applied."""
    return AutoReconnect(f"It is unknown whether a write was applied, sent with others: {reason}")


# The queue of a client


class _Asker:
    """An operation that waits in a queue, or is under way with others."""

    def __init__(self, operation: Any, size: float, seconds: float, woken: Any) -> None:
        self.operation, self.joint, self.size = operation, operation.joint, size
        self.deadline = time.monotonic() + seconds
        self.woken = woken  # what its thread or task sleeps on
        self.timer: Any = None  # what wakes its task if nothing else does
        self.is_leader = False  # whether its thread is to make the next joint call
        self.turn: int | None = None  # with which it makes a call
        self.outcome: Outcome = None

    def time_in_queue(self) -> float:
        """Return how many seconds it waits for a joint call."""
        return max(0.0, min(PATIENCE, (self.deadline - time.monotonic()) / 2))

    def time_on_board(self) -> float:
        """Return how many seconds it waits for the reply to a joint call."""
        return min(max(0.0, self.deadline - time.monotonic()) + GRACE, _LONGEST_SLEEP)

    def time_out(self) -> None:
        """End it with the error of a call whose reply has not come in time."""
        self.outcome = None, NetworkTimeout("The reply to what was sent with others timed out")

    def result(self) -> Any:
        """Return its reply, or raise its error."""
        assert self.outcome is not None
        reply, error = self.outcome
        self.outcome = None  # or the error would hold itself, by its traceback
        try:
            if error is not None:
                raise error
        finally:
            del error
        return reply


def _deadline(asker: _Asker) -> float:
    return asker.deadline


class Queue:
    """What waits for the calls of one kind on one client."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection
        self.waiting: dict[_Asker, None] = {}  # in the order of arrival
        # While operations wait, a call of this turn is under way, or the next one is about to be.
        self.turn = 0
        self.under_way = 0  # the calls of this turn, alone or joint; at most WIDTH
        self.takes_joint_calls = True

    def _begin(self) -> int | None:
        """Let a call begin, and return its turn; None if it has to wait."""
        if self.under_way >= WIDTH:
            return None
        self.under_way += 1
        return self.turn

    def _join(self, operation: Any, remaining: Remaining, woken: Any) -> _Asker | None:
        """Let an operation wait; None if it cannot go out with others."""
        size = _size(operation.joint, self.collection) if self.takes_joint_calls else math.inf
        if size > MAX_BYTES:
            return None
        seconds = remaining()
        if seconds is None:
            seconds = self.collection.database.client.options.timeout or math.inf
        asker = _Asker(operation, size, seconds, woken)
        self.waiting[asker] = None
        return asker

    def _lose_patience(self, asker: _Asker) -> bool:
        """Return whether an operation still waits. If so, it begins a turn of its own.

        From then on the others wait for this call too. The calls of earlier turns may hang.
        """
        if asker.is_leader or asker not in self.waiting:
            return False
        del self.waiting[asker]
        self.turn += 1
        self.under_way = 1
        asker.turn = self.turn
        return True

    def _take(self, batch: list[_Asker], latest: float = math.inf) -> list[_Asker]:
        """Add waiting operations to a batch, as many as fit, and return it.

        Those with a later deadline than the latest are left to wait.
        """
        most = MAX_BATCH if self.takes_joint_calls else 1
        size = sum(asker.size for asker in batch)
        ids = {asker.joint.document_id for asker in batch}
        for asker in list(self.waiting):
            if len(batch) == most:
                break
            # At most one write of a session, since each names the one that it replaces.
            is_second = asker.joint.is_write and asker.joint.document_id in ids
            is_too_much = size + asker.size > MAX_BYTES
            if is_second or is_too_much or asker.is_leader or asker.deadline > latest:
                continue
            size += asker.size
            ids.add(asker.joint.document_id)
            batch.append(asker)
            del self.waiting[asker]
        return batch

    async def _serve(self, batch: list[_Asker], settle: Settle) -> None:
        """Make the call for a batch, and give each operation of it its outcome.

        The call runs with the latest of their deadlines.
        """
        seconds = max(map(_deadline, batch)) - time.monotonic()
        outcomes: list[Outcome] | None = None
        try:
            with nullcontext() if seconds == math.inf else pymongo.timeout(max(seconds, 0.001)):
                if len(batch) == 1:
                    reply = await settle(batch[0].operation.call(self.collection))
                    outcomes = [(reply, None)]
                else:
                    joints: Any = [asker.joint for asker in batch]
                    outcomes = await joints[0].together(joints, self.collection, settle)
        except Exception as error:
            outcomes = self._failed(batch, error)
        finally:
            # If its thread or its loop ends first, what was written is unknown.
            for asker, outcome in zip(batch, outcomes or _unknown(batch, None), strict=True):
                asker.outcome = outcome

    def _failed(self, batch: list[_Asker], error: Exception) -> list[Outcome]:
        """Return the outcomes of a call that ended in an error."""
        if len(batch) == 1:
            return [(None, error)]
        is_write = batch[0].joint.is_write
        if isinstance(error, OperationFailure) and not is_write and not error.timeout:
            return [None] * len(batch)  # one shard of many may have refused it
        if isinstance(error, PyMongoError) and (is_outage(error) or reply_was_lost(error)):
            return [(None, copy.deepcopy(error)) for _ in batch]  # each with its own traceback
        if isinstance(error, OperationFailure) and is_write:
            self._learn(error)
        return [None] * len(batch) if was_not_begun(error) else _unknown(batch, error)

    def _learn(self, error: OperationFailure) -> None:
        """Make no joint calls any more if the server does not support them."""
        if self.takes_joint_calls and may_be_unsupported(error):
            self.takes_joint_calls = False
            logger.warning(
                "MongoDB refuses writes of several sessions in one command (code %s), so each is "
                "sent on its own.",
                error.code,
            )


class ThreadQueue(Queue):
    """What the threads of a process wait in.

    There is no thread of its own. When a call returns, one of the threads that wait makes the next
    one, for all that have queued by then. It is the one with the latest deadline, and it makes that
    one call: so no thread works for others for longer than for itself.
    """

    def __init__(self, collection: Any) -> None:
        super().__init__(collection)
        self.lock = threading.Lock()

    def call(self, operation: Any, remaining: Remaining) -> Any:
        """Make the call of an operation, alone or with others."""
        asker = None
        with self.lock:
            turn = self._begin()
            if turn is None:
                asker = self._join(operation, remaining, threading.Lock())
        if asker is not None:
            self._wait(asker)
            if asker.outcome is not None:
                return asker.result()
            turn = asker.turn
        try:
            return operation.call(self.collection)
        finally:
            self._end(turn)

    def _wait(self, asker: _Asker) -> None:
        """Wait until an operation has its outcome, or is to be called alone."""
        sleep = asker.woken.acquire
        try:
            sleep()
            if not sleep(timeout=asker.time_in_queue()):
                with self.lock:
                    if self._lose_patience(asker):
                        return
                if not asker.is_leader and not sleep(timeout=asker.time_on_board()):
                    asker.time_out()
        except BaseException:
            with self.lock:
                self.waiting.pop(asker, None)
            self._end(asker.turn)  # if it was to make the next call, another thread does
            raise
        if asker.is_leader:
            self._lead(asker)

    def _lead(self, leader: _Asker) -> None:
        """Make a joint call for this operation and others."""
        turn, leader.turn = leader.turn, None
        with self.lock:
            del self.waiting[leader]
            batch = self._take([leader], leader.deadline + GRACE)
        try:
            Context().run(_complete, self._serve(batch, _returned))
        finally:
            self._end(turn)
            for asker in batch[1:]:
                asker.woken.release()

    def _end(self, turn: int | None) -> None:
        """End a call of this turn, and let the next one be made if operations wait."""
        with self.lock:
            if turn != self.turn:
                return
            candidates = [asker for asker in self.waiting if not asker.is_leader]
            if not candidates:
                self.under_way -= 1
                return
            leader = max(candidates, key=_deadline)
            leader.is_leader, leader.turn = True, turn
            leader.woken.release()


class TaskQueue(Queue):
    """What the tasks of an event loop wait in.

    A joint call is made by a task of its own, in a context of its own. So the cancellation and the
    deadline of one operation end no other.
    """

    def __init__(self, collection: Any) -> None:
        super().__init__(collection)
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks only weakly

    async def call(self, operation: Any, remaining: Remaining) -> Any:
        """See ThreadQueue.call()."""
        turn = self._begin()
        if turn is None:
            asker = self._join(operation, remaining, self.loop.create_future())
            if asker is not None:
                await self._wait(asker)
                if asker.outcome is not None:
                    return asker.result()
                turn = asker.turn
        try:
            return await operation.call(self.collection)
        finally:
            self._end(turn)

    async def _wait(self, asker: _Asker) -> None:
        """Wait until an operation has its outcome, or is to be called alone."""
        asker.timer = self.loop.call_later(asker.time_in_queue(), self._stop_queuing, asker)
        try:
            await asker.woken
        except BaseException:
            self.waiting.pop(asker, None)
            self._end(asker.turn)  # if it was to make the next call, another task does
            raise
        finally:
            asker.timer.cancel()

    def _stop_queuing(self, asker: _Asker) -> None:
        if self._lose_patience(asker):
            _wake(asker)
        else:
            asker.timer = self.loop.call_later(asker.time_on_board(), self._time_out, asker)

    def _time_out(self, asker: _Asker) -> None:
        if not asker.woken.done():
            asker.time_out()
            _wake(asker)

    async def _lead(self) -> None:
        """Make a joint call for what waits by now."""
        if batch := self._take([]):
            try:
                await self._serve(batch, _same)
            finally:
                for asker in batch:
                    _wake(asker)

    def _end(self, turn: int | None) -> None:
        """End a call of this turn, and let the next one be made if operations wait."""
        if turn != self.turn:
            return
        if not self.waiting:
            self.under_way -= 1
            return

        def end(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            self._end(turn)

        task = Context().run(self.loop.create_task, self._lead())
        self.tasks.add(task)
        task.add_done_callback(end)


def _wake(asker: _Asker) -> None:
    if not asker.woken.done():  # else its task was cancelled
        asker.woken.set_result(None)


async def _returned(reply: Any) -> Any:
    return reply


def _same(reply: Awaitable[Any]) -> Awaitable[Any]:
    return reply


def _complete(coroutine: Coroutine[Any, None, None]) -> None:
    with suppress(StopIteration):  # at once, since nothing in it suspends
        coroutine.send(None)


def _unknown(batch: list[_Asker], error: Exception | None) -> list[Outcome]:
    """Return the outcomes of a call of which it is unknown what it did: a read is repeated."""
    if not batch[0].joint.is_write:
        return [None] * len(batch)
    reason = "the call was given up" if error is None else type(error).__name__
    return [(None, _lost_reply(reason)) for _ in batch]


def _size(joint: Joint, collection: Any) -> float:
    """Return about how many bytes an operation has; infinity if they cannot be told."""
    size, others = 0, {}
    for name, value in joint.fields().items():
        if isinstance(value, bytes):
            size += len(value)
        elif not isinstance(value, datetime):
            others[name] = value
    try:
        return size + len(bson.encode(others, codec_options=collection.codec_options))
    except Exception:  # its own call raises it
        return math.inf


# What the runner calls

QueueOf = TypeVar("QueueOf", bound=Queue)


def call(operation: Any, target: SessionCollection, remaining: Remaining) -> Any:
    """Make the blocking call of an operation: at once, or with what other threads need.

    Raises what the call raises.
    """
    queue = _queue(ThreadQueue, operation, target)
    if queue is None:
        return operation.call(target.collection)
    return queue.call(operation, remaining)


async def acall(operation: Any, target: SessionCollection, remaining: Remaining) -> Any:
    """See call(). The collection is an asynchronous one."""
    queue = _queue(TaskQueue, operation, target)
    if queue is None:
        return await operation.call(target.collection)
    return await queue.call(operation, remaining)


def _queue(kind: type[QueueOf], operation: Any, target: SessionCollection) -> QueueOf | None:
    """Return the queue of an operation; None if it does not wait for others."""
    queues, joint = target.queues, type(operation.joint)
    if queues is None or operation.joint is None:
        return None
    found: QueueOf | None = queues.get(joint)
    return found or queues.setdefault(joint, kind(target.collection))
