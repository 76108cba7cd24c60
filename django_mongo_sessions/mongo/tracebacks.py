"""No key and no value of a session in an error or its traceback, and nothing twice.

Django's error pages and mails show the variables of each frame, and so do error trackers. Only what
has passed through the engine is changed: an error of the project's own code stays as it was raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

from bson.errors import InvalidDocument
from pymongo.errors import ConnectionFailure, OperationFailure

from django_mongo_sessions.connection import errors
from django_mongo_sessions.exceptions import ServerUnavailable

_PACKAGE = "django_mongo_sessions."
# A traceback that enters one of these has passed through the engine.
_ENGINE = tuple(f"{_PACKAGE}{room}." for room in ("backends", "engine", "mongo", "storage"))
# It calls the site's code for a client, and gives it nothing of a session.
_CONNECTION = f"{_PACKAGE}connection."
# Code that these call gets keys, documents and data: a serializer, a socket.
_CALLERS = (f"{_PACKAGE}storage.codec", f"{_PACKAGE}storage.keyring", "pymongo.", "bson.")
# Their frames hold a session's data when they call the engine.
_DJANGO = ("django.contrib.sessions.", "django.contrib.auth")

# The server's message may quote the document that an error is about. Only messages with these codes
# are known not to: authentication, privileges, indexes, and whatever makes a server unavailable.
_QUOTES_NOTHING = frozenset(
    {6, 7, 11, 13, 18, 20, 26, 50, 59, 64, 67, 68, 72, 79, 85, 86, 89, 91, 100, 112, 115, 121}
    | {133, 189, 238, 262, 8000, 9001, 10058, 10107, 11600, 11602, 13435, 13436}
)
_DETAILS = {"index", "code", "codeName", "keyPattern", "ok", "n", "errorLabels", "operationTime"}
_COMMAND = re.compile(r"(to execute command \{ \w+:).*", re.DOTALL)


def withhold_values(error: BaseException, handled: BaseException | None) -> None:
    """Take the values of a session out of an error that PyMongo has raised for the engine.

    `handled` is the exception that was being handled before the call, if any: it is not the
    engine's.
    """
    for each in _chain(error, handled):
        if isinstance(each, InvalidDocument):
            # PyMongo 4.15.1 quotes the document, and later releases keep it.
            _, found, kind = str(each).rpartition(", of type: ")
            if found:
                each.args = (f"cannot encode a value of to_document(), of type: {kind}",)
            each._document = None
        elif isinstance(each, OperationFailure):
            each.args = (_message(each),)
            if isinstance(each.details, dict):
                for field in each.details.keys() - _DETAILS:
                    del each.details[field]


def _message(error: OperationFailure) -> str:
    """Return the part of the server's message that quotes nothing of a session."""
    said = str(error).partition(", full error: ")[0]
    if error.code == 11000:
        return said.partition(" dup key: ")[0]
    if error.code is None or error.code in _QUOTES_NOTHING:
        return _COMMAND.sub(r"\1 ... }", said)
    name = (error.details or {}).get("codeName", "error")
    return f"{name}, code {error.code} (the message is not shown, since it may quote the session)"


def has_passed_through_engine(error: BaseException) -> bool:
    """Return whether an error was raised within the engine, by whichever session."""
    return any(module.startswith(_ENGINE) for module, _ in _frames(error))


def forget_values(error: BaseException | None) -> None:
    """Empty the variables of the frames that an error of the engine has passed through.

    Its lines stay. Only frames of this package, PyMongo, the serializer, and Django's sessions and
    logins are emptied. A frame that still runs cannot be emptied: call this again once it has
    returned.
    """
    heads = [error]
    for head in heads:
        chain = list(_chain(head))
        _empty_frames(chain)
        heads += [each for group in chain for each in errors.members(group) if each not in heads]


def _empty_frames(chain: list[BaseException]) -> None:
    is_ours = False
    for each in chain:
        frames = _frames(each)
        # Or it was caught inside PyMongo, and has led to one of the engine's.
        entered = is_ours and bool(frames) and frames[0][0].startswith(_CALLERS)
        is_ours = entered or any(module.startswith(_ENGINE) for module, _ in frames)
        if not is_ours:
            continue
        is_callee = False
        for module, frame in frames:
            if module.startswith(_CONNECTION):
                entered = False
            entered = entered or module.startswith(_ENGINE)
            is_callee = is_callee or (entered and module.startswith(_CALLERS))
            if is_callee or module.startswith((_PACKAGE, *_DJANGO)):
                with suppress(RuntimeError):  # it still runs
                    frame.clear()
        is_ours = entered


def _frames(error: BaseException) -> list[tuple[str, FrameType]]:
    """Return the frames of an error's traceback, each with the name of its module."""
    frames = []
    step = error.__traceback__
    while step is not None:
        frames.append((str(step.tb_frame.f_globals.get("__name__")), step.tb_frame))
        step = step.tb_next
    return frames


def _chain(
    error: BaseException | None, end: BaseException | None = None
) -> Iterator[BaseException]:
    """Yield an error and those that have led to it, up to one that was there before."""
    seen = set()
    while error is not None and error is not end and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first(error: BaseException) -> BaseException:
    """Return the error that this one repeats, if it says only that MongoDB is still down; else it.

    If an error page uses the session too, its error has that of the view as its context.
    """
    before = errors.before(error)
    if type(error) is ServerUnavailable and before and errors.stems_from_outage(before):
        return first(before)
    return error


def leave_out_repeats(error: BaseException, handled: BaseException | None = None) -> None:
    """Remove the parts of a traceback that only repeat another part.

    These are errors of calls that were not sent, and socket errors that PyMongo quotes. PyMongo's
    errors from `handled` on may be the site's, and stay as they are. See withhold_values().
    """
    may_be_sites = False
    for each in list(errors.shown(error)):
        may_be_sites = may_be_sites or each is handled
        if isinstance(each, ServerUnavailable):
            each.__context__ = each.__context__ and first(each.__context__)
        elif isinstance(each, ConnectionFailure) and not may_be_sites:
            _leave_out_quoted(each)


def _leave_out_quoted(error: BaseException) -> None:
    cause = error.__cause__
    if cause is not None and str(cause) != "" and str(cause) in str(error):
        error.__cause__, error.__context__ = cause.__cause__, cause.__context__
        error.__suppress_context__ = cause.__suppress_context__
