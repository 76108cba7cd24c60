"""Send each operation with others of its kind, as if they had waited together.

The others are of sessions that the test does not count. What becomes of each of them is checked.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from django_mongo_sessions.mongo import coalescing, operations
from django_mongo_sessions.mongo.coalescing import Queue, TaskQueue, ThreadQueue
from django_mongo_sessions.mongo.joint import Find, Insert
from django_mongo_sessions.storage import dates, documents

# What becomes of an update of another session. It is also the id of its document, if there is one.
APPLIED, OVERTAKEN, GONE = b"applied", b"overtaken", b"gone"
FATES = st.lists(st.sampled_from([APPLIED, OVERTAKEN, GONE]), unique=True)
# If a session is gone, what became of the others is read. If yet another write was faster than
# that, it is unknown, which a test of free interleavings does not expect.
CERTAIN_FATES = st.lists(st.sampled_from([APPLIED, OVERTAKEN]), unique=True)


class Company:
    """What goes out with each operation of a test."""

    def __init__(self, collection):
        self.collection = collection
        self.begin([])

    def begin(self, fates):
        """Send updates with these fates, and the reads and inserts that belong to them."""
        self.fates, self.sent = fates, 0
        for fate in (APPLIED, OVERTAKEN):
            there = documents.marker(fate, documents.new_write_id(), dates.utc_now())
            self.collection.replace_one({"_id": fate}, there, upsert=True)

    def queue(self, kind, operation, target):
        """Return what takes the place of the queue of an operation."""
        if target.queues is None or operation.joint is None:
            return None
        return _IN_COMPANY[kind](target.collection, self)

    def others(self, joint):
        """Return other operations of a kind, and whether each is to succeed."""
        return [self._other(type(joint), fate) for fate in self.fates]

    def _other(self, kind, fate):
        new, now = documents.new_write_id(), dates.utc_now()
        if kind is Find:
            find = operations.find(fate, now)
            return replace(find, read=lambda reply: (reply or {}).get("_id") == fate), fate != GONE
        is_new = fate == APPLIED or (kind is Insert and fate == GONE)
        document_id = new if is_new else fate
        marker = documents.marker(document_id, documents.new_write_id(), now)
        if kind is Insert:
            return operations.insert(marker), fate != OVERTAKEN
        if fate == APPLIED:  # of its own, since other updates may be under way
            self.collection.insert_one(marker)
        change = {"$set": {"write_id": new}}
        return operations.update(document_id, marker["write_id"], change), fate == APPLIED


class _InCompany(Queue):
    """A queue in which others wait whenever an operation arrives."""

    def __init__(self, collection, company):
        super().__init__(collection)
        self.company = company

    async def _send(self, operation, settle):
        others = self.company.others(operation.joint)
        place = self.company.sent % (len(others) + 1)
        self.company.sent += 1
        together = [*others[:place], (operation, None), *others[place:]]
        askers = [self._join(each, None, None) for each, _ in together]
        await self._serve(self._take([]), settle)
        ours = askers.pop(place)
        for asker, (other, succeeds) in zip(askers, others, strict=True):
            # An insert that was refused is repeated alone, which is left out here.
            assert (asker.outcome is not None and other.read(asker.result())) == succeeds
        return ours.result() if ours.outcome else await settle(operation.call(self.collection))


class _ThreadInCompany(_InCompany):
    def call(self, operation, seconds):
        try:
            self._send(operation, coalescing._returned).send(None)
        except StopIteration as stop:
            return stop.value


class _TaskInCompany(_InCompany):
    async def call(self, operation, seconds):
        return await self._send(operation, coalescing._same)


_IN_COMPANY = {ThreadQueue: _ThreadInCompany, TaskQueue: _TaskInCompany}
