"""What PyMongo and Django log: commands without values of a session, and an outage once."""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict
from typing import Any

from django.http import HttpRequest

from django_mongo_sessions.connection import errors

# Of a command or a reply, the fields that never hold a value of a session. A field that is not
# named here is not shown, whatever a server or a later release of PyMongo may add.
_COMMANDS = {"ping", "listIndexes", "createIndexes", "dropIndexes", "collMod", "count", "getMore"}
_BY_ID = {"find": "filter", "delete": "deletes"}  # commands that may name only a session's id
_FILTER_FIELDS = {"_id", "revision", "write_id", "expires_at"}
_REPLY_FIELDS = {"n", "nModified", "ok", "code", "codeName", "errtype", "electionId", "opTime"}
_HIDDEN = "(not shown)"
_MAX_PENDING = 1_000  # commands whose reply was not logged, such as after a change of the level

_STRING = r'("(?:[^"\\]|\\.)*")'
_COLLECTION = re.compile(rf'\{{"\w+": (?:{_STRING}|[^,]*, "collection": {_STRING})')


class CommandFilter(logging.Filter):
    """Hides what PyMongo logs of commands on collections of sessions, and of their replies.

    A reply does not name its collection, so it is recognized by the request that it belongs to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.namespaces: set[tuple[str, str]] = set()  # databases and collections
        self._pending: OrderedDict[Any, None] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if it belongs to sessions, and let it pass."""
        try:
            fields = json.loads(record.getMessage())
            request = fields["clientId"], fields["requestId"]
            command = fields.get("command")
            namespace = fields.get("databaseName"), command and _collection(command)
        except (ValueError, TypeError, KeyError, AttributeError):  # not a message about a command
            return True
        if command is not None:
            if namespace not in self.namespaces:
                return True
            fields["command"] = _shown_command(command)
            self._remember(str(request))
        elif str(request) in self._pending:
            self._pending.pop(str(request), None)  # another thread may have made room
            for name in {"reply", "failure"} & fields.keys():
                fields[name] = _shown_reply(fields[name])
        else:
            return True
        record.msg, record.args = json.dumps(fields), None
        return True

    def _remember(self, request: str) -> None:
        self._pending[request] = None
        if len(self._pending) > _MAX_PENDING:
            self._pending.popitem(last=False)


def _collection(command: str) -> str | None:
    """Return the collection that a command names, which PyMongo may have cut short.

    Raises ValueError if its name is no JSON.
    """
    found = _COLLECTION.match(command)
    return found and json.loads(found[1] or found[2])


def _shown_command(command: str) -> str:
    try:
        fields = json.loads(command)
    except ValueError:  # PyMongo cuts long ones
        fields = {}
    name = next(iter(fields), None)
    if name in _COMMANDS or (name in _BY_ID and _is_by_id(fields.get(_BY_ID[name]))):
        return command
    found = _COLLECTION.match(command)
    return f"{found[0] if found else '{'}, {_HIDDEN}}}"


def _is_by_id(filters: Any) -> bool:
    """Return whether a filter, or that of each statement, names nothing of a session's data."""
    wanted = [part.get("q") for part in filters] if isinstance(filters, list) else [filters]
    return all(part is not None and part.keys() <= _FILTER_FIELDS for part in wanted)


def _shown_reply(reply: str) -> str:
    try:
        fields = json.loads(reply)
    except ValueError:
        return _HIDDEN
    if "code" not in fields and "errtype" in fields:  # it did not come from the server
        return reply
    shown = {name: value for name, value in fields.items() if name in _REPLY_FIELDS}
    return json.dumps(shown if shown.keys() == fields.keys() else {**shown, "...": _HIDDEN})


class OncePerRequest(logging.Filter):
    """Drops what Django logs of an outage after the first record of the same request.

    Each middleware that uses the session meets the outage again, and Django logs each time.
    """

    _MARK = "_mongo_sessions_outage_is_logged"

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is not one more of a request's outage."""
        request, error = getattr(record, "request", None), record.exc_info and record.exc_info[1]
        is_outage = bool(error) and errors.stems_from_outage(error)
        if not is_outage or not isinstance(request, HttpRequest):  # the site may log something else
            return True
        is_first = not hasattr(request, self._MARK)
        setattr(request, self._MARK, True)
        return is_first


_filter = CommandFilter()
_once_per_request = OncePerRequest()


def log_outages_once() -> None:
    """Let Django log the outage that a request has met once. Idempotent."""
    logging.getLogger("django.request").addFilter(_once_per_request)


def redact_commands(database: str, collection: str) -> None:
    """Keep the values of a collection out of PyMongo's log of commands. Idempotent."""
    _filter.namespaces.add((database, collection))
    logging.getLogger("pymongo.command").addFilter(_filter)
