"""Classify PyMongo errors: outage, lost reply, missing privilege.

The codes are those of https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

# Another index has the same keys, or the same name.
_SAME_KEYS = 85
CONFLICTS = {_SAME_KEYS, 86}
# collMod cannot change this index (InvalidOptions: before MongoDB 5.1 it makes no TTL index of
# another one), or does not exist (CommandNotFound, CommandNotSupported, NotImplemented).
UNCHANGEABLE = {72, 59, 115, 238}

NO_COLLECTION = 26
# Another process has dropped or created an index in between (IndexNotFound, IndexAlreadyExists,
# IndexBuildAborted, IndexBuildAlreadyInProgress).
OVERTAKEN = {27, 68, 276, 285}
# The codes with which a server or mongos says that it cannot serve requests at the moment, by the
# categories of that list: NetworkError, NotPrimaryError, RetriableError, ShutdownError,
# ExceededTimeLimitError and SystemOverloadedError. Three are in no category: no server for the read
# preference, dropped connections, and a storage engine under pressure.
_OUTAGES = frozenset(
    {6, 7, 89, 317, 384, 9001}
    | {189, 10058, 10107, 11602, 13435, 13436}
    | {91, 134, 262, 358, 402, 406, 407, 412}
    | {91, 333, 11600}
    | {50, 202, 262, 290, 407}
    | {433, 449, 450}
    | {133, 145, 365}
)
_OUTAGE_LABELS = ("RetryableWriteError", "RetryableError", "SystemOverloadedError")
_BAD_VALUE = 2
_ILLEGAL_OPERATION = 20
_UNAUTHORIZED = 13
# The codes with which a server rejects a command before it has done any of it: no privilege, a
# value nested too deeply (Overflow), or something that it does not know (BadValue, FailedToParse,
# TypeMismatch, CommandNotFound, CommandNotSupported, InvalidPipelineOperator, NotImplemented, and
# an unknown stage of a pipeline).
_TOO_DEEP = 15
_REJECTIONS = {_UNAUTHORIZED, _TOO_DEEP, _BAD_VALUE, 9, 14, 59, 115, 168, 238, 40324}
# Rejections, and an interruption by an administrator, that do not depend on the kind of command.
_OF_ANY_COMMAND = {_UNAUTHORIZED, _TOO_DEEP, 11601}
_PRIVILEGES = {  # by the first word of the command that was refused
    "$collStats": "collStats",
    "aggregate": "find",
    "count": "find",
    "find": "find",
    "listIndexes": "listIndexes",
    "createIndexes": "createIndex",
    "collMod": "collMod",
    "dropIndexes": "dropIndex",
}


_GROUPS: Any = getattr(builtins, "BaseExceptionGroup", ())  # Python 3.10 has none

# What PyMongo adds to the reason why it has found no server.
_TOPOLOGY = re.compile(r", Timeout: [^,]*, Topology Description: .*", re.DOTALL)
_TIMEOUTS = re.compile(r" \(configured timeouts: [^)]*\)")
# What may help if no server is found, on a site and in its tests.
ADVICE = (
    "Is MongoDB running there, and is MONGO_SESSIONS right? `manage.py check --database default` "
    "tells more."
)
ADVICE_ON_DNS = (
    "Can this machine reach its DNS server? A mongodb+srv:// URI needs an SRV record from there."
)
ADVICE_IN_TESTS = (
    "Tests need a server too, so start one. Without one, let the settings of the tests say "
    'MONGO_SESSIONS = {"URI": "mongomock://"}, and install mongomock: see "Without MongoDB" in '
    "docs/testing.md."
)

_REASON, _ADVICE = "_reason", "_advice"  # the attributes of an error that says what to try
Error = TypeVar("Error", bound=PyMongoError)


def advise(error: Error, what_to_try: str) -> Error:
    """Let an error also say what to try, and return it. See reason() and advice()."""
    said = str(error)
    vars(error).update({_REASON: said, _ADVICE: what_to_try})
    error.args = (f"{said}. {what_to_try}",)
    return error


def explain(error: PyMongoError) -> str:
    """Return why the server refused a command, with the name of a missing privilege.

    If there is no server, it says why none was found, and not what to try. It ends without a
    period.
    """
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _SAME_KEYS:  # ours was tried in both directions: see `indexes.mend`
        return (
            "foreign indexes on expires_at exist in both directions, so the engine cannot create "
            "its own: drop one of those that `manage.py mongosessions indexes` lists"
        )
    if code == _UNAUTHORIZED:
        for asked, privilege in _PRIVILEGES.items():
            if f"{{ {asked}:" in str(error):
                return f"the client's user lacks the privilege {privilege}"
    return reason(error).partition(", full error: ")[0].removesuffix(".")


def reason(error: Exception) -> str:
    """Return what an error says is wrong, without what to try. See without_topology()."""
    said: str | None = vars(error).get(_REASON)
    return without_topology(error) if said is None else said


def advice(error: Exception) -> str:
    """Return what an error says to try; "" if it says nothing of that."""
    said: str = vars(error).get(_ADVICE, "")
    return said


def without_topology(error: Exception) -> str:
    """Return what an error says, without PyMongo's description of all servers and its timeouts."""
    return _TIMEOUTS.sub("", _TOPOLOGY.sub("", str(error)))


def is_outage(error: Exception) -> bool:
    """Return whether MongoDB is down, too slow, or cannot guarantee a write."""
    if isinstance(error, (ConnectionFailure, WriteConcernError)):
        return True
    if isinstance(error, OperationFailure) and error.code in _OUTAGES:
        return True
    return isinstance(error, PyMongoError) and (
        error.timeout or any(map(error.has_error_label, _OUTAGE_LABELS))
    )


def stems_from_outage(error: BaseException | None) -> bool:
    """Return whether an exception is an outage, or was raised because of one."""
    return any(isinstance(each, Exception) and is_outage(each) for each in shown(error))


def shown(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and those that a traceback shows with it: the latest first."""
    seen = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [before(each), *members(each)]


def before(error: BaseException) -> BaseException | None:
    """Return the exception that a traceback shows before this one; None if there is none."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions of a group, such as that of an `asyncio.TaskGroup`; else none."""
    return error.exceptions if isinstance(error, _GROUPS) else ()


def id_is_taken(error: PyMongoError) -> bool:
    """Return whether an insert has failed because its `_id` is taken.

    If a unique index of the project's was violated, another id would not help.
    """
    if not isinstance(error, DuplicateKeyError):
        return False
    return "_id" in (error.details or {}).get("keyPattern", "_id")


def client_was_closed(error: Exception) -> bool:
    """Return whether a call was not sent, because its client has been closed."""
    # The second is raised if the client is closed after it has selected a server.
    return isinstance(error, PyMongoError) and any(
        text in str(error) for text in ("MongoClient after close", "closed connection pool")
    )


def may_have_applied(error: BaseException) -> bool:
    """Return whether a write that ended in this error may have been applied.

    It was not if no server was found, or if the server refused it.
    """
    if isinstance(error, (ServerSelectionTimeoutError, WaitQueueTimeoutError)):
        return False
    return not isinstance(error, PyMongoError) or is_outage(error)


def reply_was_lost(error: PyMongoError) -> bool:
    """Return whether the connection broke before the reply, and there is time to look again.

    The write may have been applied. After a timeout there is no time left to find out.
    """
    if isinstance(error, OperationFailure):
        # PyMongo (4.17 and later) treats a connection that breaks while it is opened as overload,
        # and repeats the write with a transaction number. A single mongod refuses that, and has
        # done nothing.
        return error.code == _ILLEGAL_OPERATION
    return isinstance(error, AutoReconnect) and not error.timeout


def may_be_unsupported(error: OperationFailure) -> bool:
    """Return whether the server may have refused a command because it does not support it."""
    return error.code not in _OF_ANY_COMMAND


def is_without_index(error: OperationFailure) -> bool:
    """Return whether a read named an index that does not exist."""
    return error.code == _BAD_VALUE


def was_not_begun(error: Exception) -> bool:
    """Return whether the server rejected a command before it had done any of it."""
    return isinstance(error, OperationFailure) and error.code in _REJECTIONS
