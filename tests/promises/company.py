"""Operations of other sessions, which go out with each operation of a test.

The test does not count these sessions. What becomes of each of them is checked.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.joint import Find, Insert
from django_mongo_sessions.storage import dates, documents
from tests.fuzz import joining

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
        return joining.queue(kind, target, self)

    def others(self, kind):
        """Return other operations of a kind, each with the result that it may have."""
        return [self._other(kind, fate) for fate in self.fates]

    def _other(self, kind, fate):
        new, now = documents.new_write_id(), dates.utc_now()
        if kind is Find:
            found = None if fate == GONE else fate
            find = operations.find(fate)
            return replace(find, read=lambda reply: reply and reply["_id"]), [found]
        is_new = fate == APPLIED or (kind is Insert and fate == GONE)
        document_id = new if is_new else fate
        marker = documents.marker(document_id, documents.new_write_id(), now)
        if kind is Insert:
            return operations.insert(marker), [joining.ALONE if fate == OVERTAKEN else True]
        if fate == APPLIED:  # of its own, since other updates may be under way
            self.collection.insert_one(marker)
        change = {"$set": {"write_id": new}}
        return operations.update(document_id, marker["write_id"], change), [fate == APPLIED]
