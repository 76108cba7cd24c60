"""Encrypt what is stored with the first of the keys, for `manage.py mongosessions encrypt`.

Each session is replaced only if nobody has stored it since it was read, and keeps its revision and
its dates. So requests do not notice, and the command may be stopped and run again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature

from django_mongo_sessions.conf import conf
from django_mongo_sessions.engine import mapping, payloads, predecessors
from django_mongo_sessions.mongo import bulk, operations
from django_mongo_sessions.mongo.runner import Call, Steps
from django_mongo_sessions.storage import codec, documents, keyring

_BATCH = 500  # documents
_MAX_BYTES = 32_000_000  # of encrypted payloads, which may be far larger than what was read


@dataclass
class Bound:
    """Sessions that only their cookies open, under one older key."""

    count: int
    until: datetime  # the last of them expires then


@dataclass
class Report:
    """What became of the sessions that the first key did not encrypt."""

    key_id: str
    encrypted: int = 0  # or would be
    bound: dict[str, Bound] = field(default_factory=dict)  # by the id of the key
    unopened: int = 0
    signed_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it, except for its dates."""
        return asdict(self)


class _Found(NamedTuple):
    """What is to be done with a session."""

    kind: str  # "current", "bound", "unopened", or "encrypted" with a payload
    payload: bytes = b""


def encrypt(
    dry_run: bool, sign_out_others: bool, show_progress: Callable[[int], None]
) -> Steps[Report]:
    """Encrypt the sessions that the first key does not encrypt yet, and return what became of them.

    Those that cannot be encrypted anew can be ended: they are bound to their cookies under another
    key, or do not open. `show_progress` is told how many sessions have been read. Raises
    ImproperlyConfigured if the settings do not encrypt.
    """
    if not conf.encrypts:
        raise ImproperlyConfigured(
            "Sessions are not encrypted with these settings. In MONGO_SESSIONS, set "
            'ENCRYPTION_KEYS, and ENCRYPTION to "transition".'
        )
    ring = yield from payloads.ring()
    report = Report(ring.first.id.hex())
    yield operations.ping()  # an outage ends the command soon
    after, seen = None, 0
    while batch := (yield bulk.find_not_encrypted_with(report.key_id, after, _BATCH)):
        after, seen = batch[-1]["_id"], seen + len(batch)
        changes, others, adopted, size = {}, [], [], 0
        for document in batch:
            write = document["_id"], document.get("write_id")
            found = yield from _judged(document, ring)
            if found.kind == "encrypted" and dry_run:
                report.encrypted += 1
            elif found.kind == "encrypted":
                changes[write] = documents.encryption_update(found.payload, report.key_id)
                size += len(found.payload)
                if size > _MAX_BYTES:
                    report.encrypted += yield bulk.update_many(changes)
                    changes, size = {}, 0
            elif found.kind != "current":
                _count(report, document, found.kind)
                others.append(write)
                if "adopted" in document:
                    adopted.append(document["_id"])
        if changes:
            report.encrypted += yield bulk.update_many(changes)
        if others and sign_out_others and not dry_run:
            report.signed_out += yield from _end(others, adopted)
        show_progress(seen)
    return report


def _end(writes: Sequence[tuple[bytes, Any]], adopted: Collection[bytes]) -> Steps[int]:
    """Delete sessions of which these writes are the last; return how many.

    Tombstones keep those that were adopted from coming back out of the old engine.
    """
    count = 0
    if adopted and predecessors.needs_tombstones():
        markers = [mapping.tombstone(each) for each in adopted]
        count += yield bulk.bury_many(markers, dict(writes))
        writes = [write for write in writes if write[0] not in adopted]
    if writes:
        count += yield bulk.delete_writes(writes)
    return count


def _judged(document: Mapping[str, Any], ring: keyring.Ring) -> Steps[_Found]:
    try:
        stored = documents.read(document)
        key_id = codec.key_id(stored.payload)
        if stored.payload[:1] == codec.BOUND:  # which no attempt could open without its cookie
            if not ring.named(key_id):
                ring = yield Call(keyring.source().get_newer, (ring,))
            if not ring.named(key_id):
                return _Found("unopened")
            return _Found("current" if key_id == ring.first.id else "bound")
        binding = documents.binding(document["_id"], stored.created_at)
        body, _ = yield from payloads.opened(stored.payload, binding, "")
    except (BadSignature, ValueError):
        return _Found("unopened")
    payload = codec.encrypt(body, binding, "", ring.first, conf.compress_from(True))
    return _Found("encrypted", payload)


def _count(report: Report, document: Mapping[str, Any], kind: str) -> None:
    if kind == "unopened":
        report.unopened += 1
        return
    key_id, until = codec.key_id(document["payload"]).hex(), document["expires_at"]
    bound = report.bound.setdefault(key_id, Bound(0, until))
    bound.count, bound.until = bound.count + 1, max(bound.until, until)
