"""What a server says of the collection of sessions, for `manage.py mongosessions status`.

Blocking calls, on the collection as the engine reaches it.
"""

from __future__ import annotations

from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from django_mongo_sessions import connection, dates, documents, indexes, refusals, uris
from django_mongo_sessions.conf import KEYS, conf
from django_mongo_sessions.drivers import PATIENCE, Reach, run

# Documents that are looked at where the numbers may be estimates.
SAMPLE = 10_000


def status(sessions: Any, exact: bool = False) -> dict[str, Any]:
    """Return what there is to know of the server, the collection, its sessions and the settings.

    What is said of the sessions is estimated from a sample where the collection holds more than
    10,000 documents, unless `exact`, which reads all of them; "estimates" names it.
    """
    with pymongo.timeout(connection.timeout(sessions.database.client)):
        sessions.database.command("ping")
    with pymongo.timeout(PATIENCE):
        stored = _stored(sessions)
        exact = exact or stored["documents"] <= SAMPLE
        return {
            "server": _server(sessions.database.client),
            "database": sessions.database.name,
            "collection": sessions.name,
            "sessions": _sessions(sessions, stored["documents"], exact),
            "storage": stored,
            "indexes": [found._asdict() for found in run(indexes.reporting(), Reach(sessions))],
            "settings": _settings(sessions),
        }


def _server(client: Any) -> dict[str, Any]:
    hello = client.admin.command("hello")
    return {
        "addresses": [f"{host}:{port}" for host, port in sorted(client.nodes)],
        "version": client.server_info()["version"],
        "replica_set": hello.get("setName"),
        "sharded": hello.get("msg") == "isdbgrid",
    }


def _stored(sessions: Any) -> dict[str, int]:
    """Return what the server keeps count of by itself; of all shards together."""
    try:
        shards = list(sessions.aggregate([{"$collStats": {"storageStats": {}}}]))
    except OperationFailure as error:  # to look for it first would need one more privilege
        if error.code != refusals.NO_COLLECTION:
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
    # Before MongoDB 6.0 not allowed by default, and a sample of large sessions needs it.
    pipeline = [*sample, {"$group": summary}]
    found = next(iter(sessions.aggregate(pipeline, allowDiskUse=True)), None)
    if found is None:
        facts = dict.fromkeys(("live", "expired", "signed_in", "anonymous"), 0)
    else:
        factor = 1 if exact else total / found["count"]
        counts = {name: round(found[name] * factor) for name in ("live", "expired", "signed_in")}
        facts = {
            **counts,
            "anonymous": counts["live"] - counts["signed_in"],
            "oldest": found["oldest"],
            "newest": found["newest"],
            "average_bytes": round(found["average_bytes"]),
            "largest_bytes": found["largest_bytes"],
        }
    return {"exact": exact, "estimates": [] if exact else list(facts), **facts}


def _settings(sessions: Any) -> dict[str, Any]:
    shown = {key: getattr(conf, key) for key in KEYS}
    shown["URI"] = uris.masked(conf.URI)
    shown["CLIENT"], shown["ASYNC_CLIENT"] = map(_name, (conf.CLIENT, conf.ASYNC_CLIENT))
    shown["CLIENT_OPTIONS"] = uris.masked_options(conf.CLIENT_OPTIONS)
    if conf.CLIENT is not None:
        shown["URI"] = shown["CLIENT_OPTIONS"] = "not used, because of CLIENT"
    shown["DATABASE"] = sessions.database.name
    shown["TIMEOUT"] = connection.timeout(sessions.database.client)
    shown["write concern"] = sessions.write_concern.document
    return shown


def _name(factory: Any) -> str | None:
    """Return what to call a factory of clients, whose own text may show a password."""
    if factory is None or isinstance(factory, str):
        return factory
    kind = type(factory)
    name = getattr(factory, "__qualname__", None)
    return f"{factory.__module__}.{name}" if name else f"a {kind.__module__}.{kind.__qualname__}"
