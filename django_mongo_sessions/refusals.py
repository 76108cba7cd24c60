"""What the server's refusals mean, and its silence. No I/O happens here.

The codes are those of https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml.
"""

from __future__ import annotations

from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

# Another index has the same keys, or the same name.
_SAME_KEYS = 85
CONFLICTS = {_SAME_KEYS, 86}
# collMod does not change this index (InvalidOptions: before MongoDB 5.1 it makes no TTL index of
# another), or is not there (CommandNotFound, CommandNotSupported, NotImplemented).
UNCHANGEABLE = {72, 59, 115, 238}

NO_COLLECTION = 26
_ILLEGAL_OPERATION = 20
_UNAUTHORIZED = 13
_PRIVILEGES = {  # by the first word of what is refused
    "$collStats": "collStats",
    "aggregate": "find",
    "count": "find",
    "find": "find",
    "listIndexes": "listIndexes",
    "createIndexes": "createIndex",
    "collMod": "collMod",
    "dropIndexes": "dropIndex",
}


def reason(error: PyMongoError) -> str:
    """Return why the server did not do it, with the name of the privilege that is lacking."""
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _SAME_KEYS:  # of ours in either direction: see `indexes.mending`
        return (
            "indexes that are not ours stand on expires_at in both directions, and leave no place "
            "for one; `manage.py mongosessions indexes` names them, drop one"
        )
    if code == _UNAUTHORIZED:
        for asked, privilege in _PRIVILEGES.items():
            if f"{{ {asked}:" in str(error):
                return f"the client's user lacks the privilege {privilege}"
    return str(error)


def is_outage(error: Exception) -> bool:
    """Return whether an error says that MongoDB is away, too slow, or cannot vouch for a write."""
    return isinstance(error, (ConnectionFailure, WriteConcernError)) or (
        isinstance(error, PyMongoError) and error.timeout
    )


def may_be_done(error: BaseException) -> bool:
    """Return whether a write that ended so may have been done.

    It was not where no server was found, nor where one refused it.
    """
    if isinstance(error, (ServerSelectionTimeoutError, WaitQueueTimeoutError)):
        return False
    return not isinstance(error, PyMongoError) or is_outage(error)


def was_cut_off(error: PyMongoError) -> bool:
    """Return whether a connection broke before its answer: the write may have been done, and there
    is time to find that out. Where a call has waited for as long as it may, there is none.
    """
    if isinstance(error, OperationFailure):
        # What breaks as it is opened, PyMongo (4.17 and later) takes for overload, and repeats the
        # write with a transaction number. A single mongod refuses that, and has done nothing.
        return error.code == _ILLEGAL_OPERATION
    return isinstance(error, AutoReconnect) and not error.timeout
