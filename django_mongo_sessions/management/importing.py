"""Import the sessions of another engine, batch by batch.

A batch first finds out which of its sessions are here, and leaves those alone. So an import that
was interrupted goes on where it was when it is run again, and needs no notes of its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import bson
from django.core.exceptions import ImproperlyConfigured
from pymongo.errors import DocumentTooLarge, PyMongoError

from django_mongo_sessions.backends import mongodb
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import clients
from django_mongo_sessions.engine import adopting, mapping, predecessors
from django_mongo_sessions.engine.session import Snapshot
from django_mongo_sessions.management import sources
from django_mongo_sessions.management.sources import Keys, Old, SourceError
from django_mongo_sessions.mongo import bulk, indexes, operations
from django_mongo_sessions.mongo.runner import Operation, run, single
from django_mongo_sessions.storage import dates, documents

Item = TypeVar("Item")

BATCH = 1_000  # sessions
_MAX_BYTES = 32_000_000  # of sessions that wait to be stored, whatever the size of a batch
_MOST_NAMES = 20
_SAMPLE = 100  # one in so many is read back
# A request that runs now may have adopted a session whose row came after the list of rows began.
_MARGIN = timedelta(seconds=60)

# What becomes of the sessions of an import.
COUNTS = (
    "imported",
    "already_here",
    "expired",
    "unreadable",  # or empty
    "key_unusable",
    "not_storable",
    "too_large",
    "refused_by_mongodb",
    "failed_verification",
)
# Those that were left in the old engine, and may still be in use.
_LEFT = COUNTS[3:]


class _Made(NamedTuple):
    """A session that is ready to be stored."""

    key: str
    document: dict[str, Any]
    expected: Snapshot


class Import:
    """Bring the sessions of an engine here, or end those copies that were signed out there."""

    def __init__(
        self,
        engine: str,
        *,
        size: int = BATCH,
        is_trial: bool = False,
        takes: bool = False,
        finishes: bool = False,
        verifies_all: bool = True,
    ) -> None:
        """Find the engine; raise SourceError if it cannot be listed, or must not be imported now.

        `is_trial` changes nothing, here or there. `takes` deletes there what has been verified.
        `finishes` imports nothing, and ends copies.
        """
        self._engine, self._size = engine, size
        self._is_trial, self._takes, self._finishes = is_trial, takes, finishes
        self._verifies_all = verifies_all
        store: type = import_module(conf.SESSION_ENGINE).SessionStore
        self._is_switched = issubclass(store, mongodb.SessionStore)
        if not is_trial:
            self._refuse()
        with self._blaming():
            self._source = sources.find(engine)
        self.total = self._source.total
        # A store of the site's own may derive fields.
        self._session: mongodb.SessionStore = (
            store() if self._is_switched else mongodb.SessionStore()
        )
        self._codec_options = clients.collection().collection.codec_options
        self.counts: Counter[str] = Counter()
        # The names of session keys.
        self._unstorable: Counter[str] = Counter()
        self._altered: Counter[str] = Counter()

    def _refuse(self) -> None:
        """Raise SourceError if sessions would end, or would come back after they have ended."""
        if self._finishes:
            if not conf.PREDECESSOR_KEEPS:
                raise SourceError(
                    "PREDECESSOR_KEEPS is not True, so requests may have taken sessions out of the "
                    "old engine. They would be ended, as if their users had signed out there."
                )
        elif self._takes and (conf.PREDECESSOR_KEEPS or not self._is_switched):
            raise SourceError(
                "The old engine is still in use: PREDECESSOR_KEEPS is True, or SESSION_ENGINE is "
                "not this engine. To delete sessions there would sign users out."
            )
        elif not self._is_switched:
            raise SourceError(
                "SESSION_ENGINE is not this engine yet. A copy that is made now would lead later: "
                "it would lose what is stored until then, and bring back who signs out until then. "
                "Switch first, with PREDECESSOR."
            )
        elif predecessors.current() is None:
            raise SourceError(
                "This engine is in use, and there is no PREDECESSOR, or its time is over. So a "
                "sign-out leaves no tombstone, and an ended session would be imported again. Set "
                "PREDECESSOR and PREDECESSOR_UNTIL first."
            )

    @property
    def left(self) -> int:
        """How many sessions were left in the old engine, though they may still be in use."""
        return sum(self.counts[name] for name in _LEFT)

    def report(self) -> dict[str, Any]:
        """Return what has become of the sessions: counts, and by the name of session keys."""
        if self._finishes:
            return {"ended": self.counts["ended"], "remain": self.counts["remain"]}
        report: dict[str, Any] = {name: self.counts[name] for name in COUNTS}
        if self._takes:
            report["deleted_there"] = self.counts["deleted_there"]
        report["session_keys_not_storable"] = dict(self._unstorable.most_common(_MOST_NAMES))
        report["session_keys_changed_by_serializer"] = dict(self._altered.most_common(_MOST_NAMES))
        return report

    def run(self) -> Iterator[int]:
        """Import, or end copies; yield after each batch how many sessions were listed so far."""
        return self._finish() if self._finishes else self._import_all()

    def _import_all(self) -> Iterator[int]:
        if not self._is_trial:
            run(indexes.ensure_once())
        listed = 0
        with sources.quiet():
            for keys in self._guarded(self._source.batches(self._size)):
                if not self._is_trial:
                    self._refuse()  # it may be PREDECESSOR_UNTIL by now
                self._import(keys)
                listed += len(keys)
                yield listed

    def _import(self, keys: Keys) -> None:
        now, ids = dates.utc_now(), {}
        for key, ends in keys.items():
            document_id = documents.document_id(key)
            if ends is not None and ends <= now:
                self.counts["expired"] += 1
            elif document_id is None:
                self.counts["key_unusable"] += 1
            else:
                ids[key] = document_id
        here = _do(operations.find_ids(list(ids.values())))
        self.counts["already_here"] += len(here)
        made: list[_Made] = []
        size = 0
        for old in self._guarded(self._source.read([key for key in ids if ids[key] not in here])):
            ready = self._make(old, ids[old.key])
            if isinstance(ready, str):
                self.counts[ready] += 1
                continue
            made.append(ready)
            size += len(ready.expected.body)
            if size > _MAX_BYTES:
                self._store(made)
                made, size = [], 0
        self._store(made)
        if self._takes and here and not self._is_trial:
            keys_here = {ids[key]: key for key in ids if ids[key] in here}
            self._delete_there({each: keys_here[each] for each in self._open(keys_here)})

    def _make(self, old: Old, document_id: bytes) -> _Made | str:
        """Return what to store of a session, or what it is counted as.

        Whatever the site's own code raises, of a serializer or a to_document(), is counted too: one
        session must not keep the others from being imported.
        """
        if old.session is None:
            return old.reason
        session, data = self._session, old.session.data
        try:
            data, fields = session.from_predecessor(old.session, data)
            content = session._content(data)
            fields = {**old.fields, **fields}
            document, expected = run(
                mapping.adopted(session, old.key, document_id, content, fields, old.session)
            )
            # In the batch, one that does not fit would stop the others.
            bson.encode(document, codec_options=self._codec_options)
            same = session._load(content.body)
            changed = (
                [] if same == data else [name for name in data if same.get(name) != data[name]]
            )
        except DocumentTooLarge:
            return "too_large"
        except (ImproperlyConfigured, PyMongoError):  # the keys that encrypt sessions are missing
            raise
        except Exception as error:
            names = map(str, adopting.unstorable(session, data))
            self._unstorable.update(list(names) or [type(error).__name__])
            return "not_storable"
        if expected.expires_at <= dates.utc_now():  # because of ABSOLUTE_AGE
            return "expired"
        self._altered.update(map(str, changed))
        return _Made(old.key, document, expected)

    def _store(self, made: list[_Made]) -> None:
        """Insert sessions, read them back, and delete those there that are here."""
        if self._is_trial or not made:
            self.counts["imported"] += len(made)
            return
        errors = _do(bulk.insert_many([each.document for each in made]))
        for is_taken in errors.values():
            self.counts["already_here" if is_taken else "refused_by_mongodb"] += 1
        stored = [each for index, each in enumerate(made) if index not in errors]
        failed = self._verify(stored)
        self.counts["imported"] += len(stored) - len(failed)
        self.counts["failed_verification"] += len(failed)
        if self._takes:
            taken = [each for each in stored if each.key not in failed]
            self._delete_there({each.expected.document_id: each.key for each in taken})

    def _verify(self, stored: list[_Made]) -> set[str]:
        """Read sessions back; return the keys of those that are not the same, and delete these."""
        count = len(stored) if self._verifies_all else -(-len(stored) // _SAMPLE)
        chosen = random.sample(stored, count)
        found = self._find([each.expected.document_id for each in chosen])
        failed = set()
        for each in chosen:
            if not self._is_same(each, found.get(each.expected.document_id)):
                failed.add(each.key)
                _do(operations.delete_write(each.expected.document_id, each.expected.write_id))
        return failed

    def _is_same(self, made: _Made, found: dict[str, Any] | None) -> bool:
        """Return whether what was read is the session, as imported or as requests changed it."""
        if found is None:
            return False
        document_id, sent = made.expected.document_id, made.document
        if documents.is_marker(found) or found.get("write_id") != sent["write_id"]:
            return self._opens(made.key, document_id, found)
        opened = run(mapping.opened(self._session, made.key, document_id, found))
        if not opened.readable or opened.body != made.expected.body:
            return False
        is_moved: bool = found["seen_at"] != sent["seen_at"]  # a request has moved its end
        return is_moved or bool(found["expires_at"] == sent["expires_at"])

    def _open(self, keys: Mapping[bytes, str]) -> Iterator[bytes]:
        """Yield those of some documents that are markers, or sessions that open."""
        for document_id, found in self._find(keys).items():
            if self._opens(keys[document_id], document_id, found):
                yield document_id

    def _opens(self, key: str, document_id: bytes, found: dict[str, Any]) -> bool:
        if documents.is_marker(found):  # a request has moved the session, or signed out
            return True
        return run(mapping.opened(self._session, key, document_id, found)).readable

    def _find(self, ids: Collection[bytes]) -> dict[bytes, dict[str, Any]]:
        return {found["_id"]: found for found in _do(bulk.find_many(list(ids)))}

    def _delete_there(self, keys: Mapping[bytes, str]) -> None:
        if keys:
            with self._blaming():
                self._source.delete(list(keys.values()))
            _do(operations.forget_there(list(keys)))
            self.counts["deleted_there"] += len(keys)

    def _finish(self) -> Iterator[int]:
        """End those copies whose session has ended there, and that nobody has used here.

        The ids of all sessions there are held in memory: about 100 bytes for each. A copy of the
        last minute is left alone: its row may be newer than the list.
        """
        before = dates.utc_now() - _MARGIN
        there: set[bytes] = set()
        listed = 0
        for keys in self._guarded(self._source.batches(self._size)):
            there.update(filter(None, map(documents.document_id, keys)))
            listed += len(keys)
            yield listed
        if not there:
            raise SourceError(
                f"{self._engine} has no session at all, so every copy that nobody has used here "
                "would be ended. Is it the right database?"
            )
        after: bytes | None = b""
        while after is not None:
            copies = _do(bulk.find_copies(before, after, self._size))
            after = copies[-1] if copies else None
            gone = [document_id for document_id in copies if document_id not in there]
            self.counts["remain"] += len(copies) - len(gone)
            if self._is_trial:
                self.counts["ended"] += len(gone)
            elif gone:
                self.counts["ended"] += _do(bulk.delete_copies(before, gone))

    def _guarded(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield what a source yields; what the old engine raises becomes a SourceError."""
        with self._blaming():
            iterator = iter(items)
        while True:
            with self._blaming():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Say that the old engine has failed. Only the first line: others may quote a query."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:
            # Of a file, without its name, which is made of the session's key.
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = next(iter(text.splitlines()), "")
            raise SourceError(
                f"{self._engine} has failed: {type(error).__name__}: {reason}"
            ) from error


def _do(operation: Operation[Item]) -> Item:
    return run(single(operation))
