"""Send what many tasks or threads need at the same moment as one command.

A call of PyMongo's costs several times what the server and the network take for it. So while calls
of one kind are under way, further operations of that kind wait in a queue of their client, and as
soon as one of those calls returns, all that have queued go out together. An operation that finds no
call under way does not wait: it goes out alone, as it does without a queue.

Each operation keeps its own deadline, error and cancellation. None waits in a queue for long, and
one whose outcome a joint reply does not tell exactly is called alone:

    call() ──▶ alone ◀── waited too long, or too large ── waiting ◀── call(), while others go on
                 ▲                                           │
                 └── the joint call failed, and did nothing ─┤ _take()
                                                             ▼
            reply, or the error of its own call ◀──────── on board
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import threading
import time
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import Context
from datetime import datetime
from typing import Any, TypeVar

import bson
from pymongo.errors import NetworkTimeout, OperationFailure, PyMongoError

from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.connection.errors import (
    is_outage,
    may_be_unsupported,
    reply_was_lost,
    was_not_begun,
)
from django_mongo_sessions.connection.srv import dns_outage
from django_mongo_sessions.mongo import deadlines
from django_mongo_sessions.mongo.joint import Joint, Outcome, Settle, lost_reply

MAX_BATCH = 32  # operations that go out together
# Calls of one kind that are under way at most. A further one begins only while a full batch waits.
# Then one is on its way while the replies to the other are dealt with: 64 tasks were faster with
# two, and 8 tasks and 16 threads with one, since smaller batches cost more.
WIDTH = 2
MAX_BYTES = 1_000_000  # of the statements of a batch together
# Seconds in a queue, and never more than half of the time that an operation has. Then it is called
# alone: a server that hangs costs it little more time than without a queue.
PATIENCE = 1.0
# Seconds that an operation waits beyond its deadline for the error that the joint call meets, which
# runs with the latest deadline.
GRACE = 0.1
_LONGEST_SLEEP = 1_000_000.0  # seconds, of an operation without a deadline

logger = logging.getLogger("django_mongo_sessions")

# The queue of a client


class _Entry:
    """An operation that waits in a queue, or is under way with others."""

    __slots__ = (
        "deadline",
        "is_leader",
        "is_on_board",
        "joint",
        "operation",
        "outcome",
        "size",
        "turn",
        "until",
        "woken",
    )

    def __init__(self, operation: Any, size: float, seconds: float, woken: Any) -> None:
        self.operation, self.joint, self.size = operation, operation.joint, size
        now = time.monotonic()
        self.deadline = now + seconds
        self.until = now + min(PATIENCE, seconds / 2)  # how long it waits for a joint call
        self.woken = woken  # what its thread or task sleeps on
        self.is_on_board = False  # whether `until` is the end of its wait for a reply
        self.is_leader = False  # whether its thread is to make the next joint call
        self.turn: int | None = None  # with which it makes a call
        self.outcome: Outcome = None

    def time_in_queue(self) -> float:
        """Return how many seconds are left to wait for a joint call."""
        return max(0.0, self.until - time.monotonic())

    def time_on_board(self) -> float:
        """Return how many seconds it waits for the reply to a joint call."""
        return min(self.time_left() + GRACE, _LONGEST_SLEEP)

    def time_left(self) -> float:
        """Return how many seconds are left until its deadline."""
        return max(0.0, self.deadline - time.monotonic())

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


def _deadline(entry: _Entry) -> float:
    return entry.deadline


class Queue:
    """What waits for the calls of one kind on one client."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection
        self.waiting: dict[_Entry, None] = {}  # in the order of arrival
        # While operations wait, a call of this turn is under way, or the next one is about to be.
        self.turn = 0
        self.under_way = 0  # the calls of this turn, alone or joint; at most WIDTH
        self.takes_joint_calls = True

    def _begin(self) -> int | None:
        """Let a call begin, and return its turn; None if it has to wait."""
        if not self._has_room(self.under_way):
            return None
        self.under_way += 1
        return self.turn

    def _has_room(self, others: int) -> bool:
        """Return whether a call may begin while that many others are under way."""
        return others == 0 or (others < WIDTH and len(self.waiting) >= MAX_BATCH)

    def _join(self, operation: Any, seconds: float | None, woken: Any) -> _Entry | None:
        """Let an operation wait; None if it cannot go out with others."""
        size = _size(operation.joint, self.collection) if self.takes_joint_calls else math.inf
        if size > MAX_BYTES:
            return None
        limits = [limit for limit in (seconds, deadlines.remaining()) if limit is not None]
        if not limits:
            limits = [self.collection.database.client.options.timeout or math.inf]
        entry = _Entry(operation, size, min(limits), woken)
        self.waiting[entry] = None
        return entry

    def _lose_patience(self, entry: _Entry) -> bool:
        """Return whether an operation still waits. If so, it begins a turn of its own.

        From then on the others wait for this call too. The calls of earlier turns may hang.
        """
        if entry.is_leader or entry not in self.waiting:
            return False
        del self.waiting[entry]
        self.turn += 1
        self.under_way = 1
        entry.turn = self.turn
        return True

    def _take(self, batch: list[_Entry], latest: float = math.inf) -> list[_Entry]:
        """Add waiting operations to a batch, as many as fit, and return it.

        Those with a later deadline than the latest are left to wait.
        """
        most = MAX_BATCH if self.takes_joint_calls else 1
        size = sum(entry.size for entry in batch)
        ids = {entry.joint.document_id for entry in batch}
        for entry in list(self.waiting):
            if len(batch) == most:
                break
            # At most one write of a session, since each names the one that it replaces.
            is_second = entry.joint.is_write and entry.joint.document_id in ids
            is_too_much = size + entry.size > MAX_BYTES
            if is_second or is_too_much or entry.is_leader or entry.deadline > latest:
                continue
            size += entry.size
            ids.add(entry.joint.document_id)
            batch.append(entry)
            del self.waiting[entry]
        return batch

    async def _serve(self, batch: list[_Entry], settle: Settle) -> None:
        """Make the call for a batch, and give each operation of it its outcome.

        The call runs with the latest of their deadlines.
        """
        seconds = max(map(_deadline, batch)) - time.monotonic()
        outcomes: list[Outcome] | None = None
        try:
            with _within(seconds):
                if len(batch) == 1:
                    reply = await settle(batch[0].operation.call(self.collection))
                    outcomes = [(reply, None)]
                else:
                    joints: Any = [entry.joint for entry in batch]
                    outcomes = await joints[0].together(joints, self.collection, settle)
        except Exception as error:
            outcomes = self._failed(batch, dns_outage(error, self.collection) or error)
        finally:
            # If its thread or its loop ends first, what was written is unknown.
            for entry, outcome in zip(batch, outcomes or _unknown(batch, None), strict=True):
                entry.outcome = outcome

    def _failed(self, batch: list[_Entry], error: Exception) -> list[Outcome]:
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

    The queue has no thread of its own. When a call returns, one of the waiting threads makes the
    next call, for all that have queued by then. It is the thread with the latest deadline, and it
    makes only that call. So no thread works for others for longer than for itself.
    """

    def __init__(self, collection: Any) -> None:
        super().__init__(collection)
        # A finalizer or a signal handler that interrupts its holder may use a session: see call().
        self.lock = threading.RLock()
        self.holder: int | None = None  # the thread that is changing the queue

    def call(self, operation: Any, seconds: float | None) -> Any:
        """Make the call of an operation within that many seconds, alone or with others.

        If it interrupts a change of the queue, it leaves the queue as it is.
        """
        if self.holder == threading.get_ident():
            with _within(seconds):
                return operation.call(self.collection)
        entry = None
        with self._locked():
            turn = self._begin()
            if turn is None:
                entry = self._join(operation, seconds, _held())
        if entry is not None:
            self._wait(entry)
            if entry.outcome is not None:
                return entry.result()
            turn, seconds = entry.turn, entry.time_left()
        try:
            with _within(seconds):
                return operation.call(self.collection)
        finally:
            self._end(turn)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other thread change the queue, and nothing that interrupts this one."""
        with self.lock:
            try:
                self.holder = threading.get_ident()
                yield
            finally:
                self.holder = None

    def _wait(self, entry: _Entry) -> None:
        """Wait until an operation has its outcome, or is to be called alone."""
        sleep = entry.woken.acquire
        try:
            if not sleep(timeout=entry.time_in_queue()):
                with self._locked():
                    if self._lose_patience(entry):
                        return
                if not entry.is_leader and not sleep(timeout=entry.time_on_board()):
                    entry.time_out()
        except BaseException:
            with self._locked():
                self.waiting.pop(entry, None)
            self._end(entry.turn)  # if it was to make the next call, another thread does
            raise
        if entry.is_leader:
            self._lead(entry)

    def _lead(self, leader: _Entry) -> None:
        """Make a joint call for this operation and others."""
        turn, leader.turn = leader.turn, None
        with self._locked():
            del self.waiting[leader]
            batch = self._take([leader], leader.deadline + GRACE)
        try:
            Context().run(_complete, self._serve(batch, _returned))
        finally:
            self._end(turn)
            for entry in batch[1:]:
                entry.woken.release()

    def _end(self, turn: int | None) -> None:
        """End a call of this turn, and let the next one be made if operations wait."""
        with self._locked():
            if turn != self.turn:
                return
            candidates = [entry for entry in self.waiting if not entry.is_leader]
            if not candidates or not self._has_room(self.under_way - 1):
                self.under_way -= 1
                return
            leader = max(candidates, key=_deadline)
            leader.is_leader, leader.turn = True, turn
            leader.woken.release()


def _held() -> threading.Lock:
    """Return a lock for a thread to sleep on. It may be released before the thread sleeps."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class TaskQueue(Queue):
    """What the tasks of an event loop wait in.

    A joint call is made by a task of its own, in a context of its own. So the cancellation and the
    deadline of one operation end no other.
    """

    def __init__(self, collection: Any) -> None:
        super().__init__(collection)
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks only weakly
        self.entries: set[_Entry] = set()  # that wait, or are on board
        self.timer: asyncio.TimerHandle | None = None  # one for all of them
        self.timer_ends = math.inf  # time.monotonic(), which need not be the loop's clock
        # Whether the last joint call was for several. Then the tasks that it has woken are likely
        # to need their next call together, so the first of them goes out with those that arrive in
        # the same turn of the loop.
        self.has_company = False

    async def call(self, operation: Any, seconds: float | None) -> Any:
        """See ThreadQueue.call()."""
        turn = None if self.has_company else self._begin()
        if turn is None:
            entry = self._join(operation, seconds, self.loop.create_future())
            if entry is not None:
                if (begun := self._begin()) is not None:
                    self._start(begun)
                await self._wait(entry)
                if entry.outcome is not None:
                    return entry.result()
                turn, seconds = entry.turn, entry.time_left()
        try:
            with _within(seconds):
                return await operation.call(self.collection)
        finally:
            self._end(turn)

    async def _wait(self, entry: _Entry) -> None:
        """Wait until an operation has its outcome, or is to be called alone."""
        self.entries.add(entry)
        if entry.until < self.timer_ends:
            self._set_timer(entry.until)
        try:
            await entry.woken
        except BaseException:
            self.waiting.pop(entry, None)
            self._end(entry.turn)  # if it was to make the next call, another task does
            raise
        finally:
            self.entries.discard(entry)

    def _set_timer(self, at: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer_ends = at
        self.timer = self.loop.call_later(at - time.monotonic(), self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        """Let those go that have waited long enough: in the queue, or for the reply."""
        self.timer, self.timer_ends, now = None, math.inf, time.monotonic()
        for entry in [entry for entry in self.entries if entry.until <= now]:
            if entry.woken.done():
                continue
            if self._lose_patience(entry):
                _wake(entry)
            elif entry.is_on_board:
                entry.time_out()
                _wake(entry)
            else:
                entry.is_on_board, entry.until = True, now + entry.time_on_board()
        if limits := [entry.until for entry in self.entries if not entry.woken.done()]:
            self._set_timer(min(limits))

    async def _lead(self) -> None:
        """Make a joint call for what waits by now."""
        batch = self._take([])
        self.has_company = len(batch) > 1
        if batch:
            try:
                await self._serve(batch, _same)
            finally:
                for entry in batch:
                    _wake(entry)

    def _end(self, turn: int | None) -> None:
        """End a call of this turn, and let the next one be made if operations wait."""
        if turn != self.turn:
            return
        if self.waiting and self._has_room(self.under_way - 1):
            self._start(turn)
        else:
            self.under_way -= 1

    def _start(self, turn: int) -> None:
        """Begin a joint call of this turn, which ends by itself."""

        def end(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            self._end(turn)

        task = Context().run(self.loop.create_task, self._lead())
        self.tasks.add(task)
        task.add_done_callback(end)


def _wake(entry: _Entry) -> None:
    if not entry.woken.done():  # else its task was cancelled
        entry.woken.set_result(None)


async def _returned(reply: Any) -> Any:
    return reply


def _same(reply: Awaitable[Any]) -> Awaitable[Any]:
    return reply


def _complete(coroutine: Coroutine[Any, None, None]) -> None:
    with suppress(StopIteration):  # at once, since nothing in it suspends
        coroutine.send(None)


def _unknown(batch: list[_Entry], error: Exception | None) -> list[Outcome]:
    """Return the outcomes of a call whose effect is unknown: a read is repeated."""
    if not batch[0].joint.is_write:
        return [None] * len(batch)
    reason = "the call was given up" if error is None else type(error).__name__
    return [(None, lost_reply(reason)) for _ in batch]


def _size(joint: Joint, collection: Any) -> float:
    """Return about how many bytes an operation has; infinity if they cannot be told."""
    size, others = 0, {}
    for name, value in joint.fields().items():
        # What can always be encoded need not be, which would take longer than all the rest.
        if isinstance(value, bytes) or (isinstance(value, str) and value.isascii()):
            size += len(value)
        elif isinstance(value, int) and value.bit_length() < 64:
            size += 8
        elif not isinstance(value, datetime):
            others[name] = value
    if not others:
        return size
    try:
        return size + len(bson.encode(others, codec_options=collection.codec_options))
    except Exception:  # its own call raises it
        return math.inf


def _within(seconds: float | None) -> AbstractContextManager[None]:
    if seconds is None or seconds == math.inf:
        return deadlines.within(None)
    return deadlines.within(max(seconds, 0.001))  # PyMongo takes 0 for no limit


# What the runner calls

QueueOf = TypeVar("QueueOf", bound=Queue)


def call(operation: Any, target: SessionCollection, seconds: float | None) -> Any:
    """Make the blocking call of an operation: at once, or with what other threads need.

    Raises what the call raises. After that many seconds, that is PyMongo's error of a timeout.
    """
    queue = _queue(ThreadQueue, operation, target)
    if queue is None:
        with deadlines.within(seconds):
            return operation.call(target.collection)
    return queue.call(operation, seconds)


async def acall(operation: Any, target: SessionCollection, seconds: float | None) -> Any:
    """See call(). The collection is an asynchronous one."""
    queue = _queue(TaskQueue, operation, target)
    if queue is None:
        with deadlines.within(seconds):
            return await operation.call(target.collection)
    return await queue.call(operation, seconds)


def _queue(kind: type[QueueOf], operation: Any, target: SessionCollection) -> QueueOf | None:
    """Return the queue of an operation; None if it does not wait for others."""
    queues, joint = target.queues, type(operation.joint)
    if queues is None or operation.joint is None:
        return None
    found: QueueOf | None = queues.get(joint)
    return found or queues.setdefault(joint, kind(target.collection))
