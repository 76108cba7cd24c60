"""What the server reports of the collection of sessions, for `manage.py mongosessions status`.

Blocking calls only.
"""

from __future__ import annotations

import math
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from django_mongo_sessions.conf import KEYS, conf
from django_mongo_sessions.connection import collection as connection
from django_mongo_sessions.connection import errors, uris
from django_mongo_sessions.connection.collection import SessionCollection
from django_mongo_sessions.connection.srv import dns_outages
from django_mongo_sessions.exceptions import KeysUnavailable
from django_mongo_sessions.mongo import bulk, indexes
from django_mongo_sessions.mongo.runner import MAINTENANCE_TIMEOUT, run_on, single
from django_mongo_sessions.storage import dates, documents, keyring

# How many documents estimates are made from.
SAMPLE = 10_000


def status(sessions: Any, exact: bool = False) -> dict[str, Any]:
    """Return facts about the server, the collection, its sessions and the settings.

    If the collection holds more than 10,000 documents, facts about sessions are estimated from a
    sample, and "estimates" names them. With `exact` every document is read.
    """
    with pymongo.timeout(connection.timeout(sessions.database.client)), dns_outages(sessions):
        sessions.database.command("ping")
    with pymongo.timeout(MAINTENANCE_TIMEOUT):
        stored = _stored(sessions)
        exact = exact or stored["documents"] <= SAMPLE
        return {
            "server": _server(sessions.database.client),
            "database": sessions.database.name,
            "collection": sessions.name,
            "sessions": _sessions(sessions, stored["documents"], exact),
            "encryption": _encryption(sessions, stored["documents"], exact),
            "storage": stored,
            "indexes": [
                {"name": index.name, "state": index.state, "detail": index.detail}
                for index in _indexes(sessions)
            ],
            **_predecessor(),
            "settings": _settings(sessions),
        }


def _indexes(sessions: Any) -> list[indexes.IndexReport]:
    return run_on(SessionCollection(sessions), indexes.report())  # without a deadline of its own


def _server(client: Any) -> dict[str, Any]:
    hello = client.admin.command("hello")
    return {
        "addresses": [f"{host}:{port}" for host, port in sorted(client.nodes)],
        "version": client.server_info()["version"],
        "replica_set": hello.get("setName"),
        "sharded": hello.get("msg") == "isdbgrid",
    }


def _stored(sessions: Any) -> dict[str, int]:
    """Return the collection's metadata, added up over all shards."""
    try:
        shards = list(sessions.aggregate([{"$collStats": {"storageStats": {}}}]))
    except OperationFailure as error:  # looking for it first would need one more privilege
        if error.code != errors.NO_COLLECTION:
            raise
        shards = []
    stats = [shard["storageStats"] for shard in shards]
    totals = {
        "documents": "count",
        "data_bytes": "size",
        "disk_bytes": "storageSize",
        "index_bytes": "totalIndexSize",
    }
    return {name: sum(int(part.get(field, 0)) for part in stats) for name, field in totals.items()}


def _sessions(sessions: Any, total: int, exact: bool) -> dict[str, Any]:
    sample = [] if exact else [{"$sample": {"size": SAMPLE}}]
    summary = documents.summary(dates.utc_now())
    # A sample of large sessions needs the disk, which MongoDB allows by default from 6.0 on.
    pipeline = [*sample, {"$group": summary}]
    found = next(iter(sessions.aggregate(pipeline, allowDiskUse=True)), None)
    names = ["live", "expired", "signed_in"]
    if conf.PREDECESSOR is not None:
        names += ["adopted", "adopted_lately", "tombstones"]
    if found is None:
        facts = dict.fromkeys((*names, "anonymous"), 0)
    else:
        factor = 1 if exact else total / found["count"]
        counts = {name: round(found[name] * factor) for name in names}
        facts = {
            **counts,
            "anonymous": counts["live"] - counts["signed_in"],
            "oldest": found["oldest"],
            "newest": found["newest"],
            "average_bytes": round(found["average_bytes"]),
            "largest_bytes": found["largest_bytes"],
        }
    return {"exact": exact, "estimates": [] if exact else list(facts), **facts}


def _encryption(sessions: Any, total: int, exact: bool) -> dict[str, Any] | None:
    """Return how many live sessions each key encrypts; None if nothing is encrypted."""
    count = bulk.count_by_key(dates.utc_now(), None if exact else SAMPLE)
    found = run_on(SessionCollection(sessions), single(count))
    if conf.encryption is None and not any(found):
        return None
    factor = 1 if exact else total / SAMPLE
    counts = {str(name): round(count * factor) for name, count in found.items() if name is not None}
    not_encrypted = round(found.get(None, 0) * factor)
    try:
        ids = keyring.source().get().ids() if conf.encryption else []
    except KeysUnavailable as error:  # the counts need no key
        return {"keys": str(error), "by_key": counts, "not_encrypted": not_encrypted}
    return {
        "keys": ids,  # the first one encrypts
        "by_key": {id: counts.pop(id, 0) for id in ids},
        "by_unknown_key": counts,
        "not_encrypted": not_encrypted,
    }


def _predecessor() -> dict[str, Any]:
    """Return for how long the old engine is still asked, if there is one."""
    if conf.PREDECESSOR is None:
        return {}
    left = conf.predecessor_until() - dates.utc_now()
    days = max(0, math.ceil(left.total_seconds() / 86_400))
    facts = {"engine": conf.PREDECESSOR, "keeps": conf.PREDECESSOR_KEEPS, "days_left": days}
    return {"predecessor": facts}


def _settings(sessions: Any) -> dict[str, Any]:
    shown = {key: getattr(conf, key) for key in KEYS}
    if shown["ENCRYPTION_KEYS"] is not None:
        keys = keyring.named()
        shown["ENCRYPTION_KEYS"] = _name(keys) if callable(keys) else f"a list of {len(keys)}"
    shown["ENCRYPTION"] = conf.encryption
    shown["COMPRESS"] = conf.compress_from(conf.encrypts)
    shown["URI"] = uris.masked(conf.URI)
    for key in ("CLIENT", "ASYNC_CLIENT", "ADDRESS_FROM", "MAX_SESSIONS"):
        shown[key] = _name(shown[key])
    shown["CLIENT_OPTIONS"] = uris.masked_options(conf.CLIENT_OPTIONS)
    if conf.DATABASE_ALIAS is not None:
        shown["URI"] = "not used, because of DATABASE_ALIAS"
    if conf.CLIENT is not None:
        shown["URI"] = shown["CLIENT_OPTIONS"] = "not used, because of CLIENT"
    shown["DATABASE"] = sessions.database.name
    shown["TIMEOUT"] = connection.timeout(sessions.database.client)
    shown["write concern"] = sessions.write_concern.document
    return shown


def _name(value: Any) -> Any:
    """Return the name of a callable, whose own repr() may show a password; else the value."""
    if not callable(value):
        return value
    kind = type(value)
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else f"a {kind.__module__}.{kind.__qualname__}"
