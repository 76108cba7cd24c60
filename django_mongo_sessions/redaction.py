"""What logs and error reports may show: no key of a session, and no value.

No I/O happens here.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress

from bson.errors import InvalidDocument

_OURS = "django_mongo_sessions."
_CODEC = f"{_OURS}codec"
# What they call, they hand keys, documents and data: a serializer, a socket.
_CALLERS = (_CODEC, "pymongo.", "bson.")
# Where they call us, they hold what is stored in the session.
_DJANGO = ("django.contrib.sessions.", "django.contrib.auth")


def forget_values(error: BaseException | None) -> None:
    """Empty the variables of the frames in which an error of ours was raised and passed on.

    Their lines stay. Only those of ours, of PyMongo's, of the serializer's, and of Django's
    sessions and logins: Django's error pages and mails show the variables of each frame. A frame
    that is still at work cannot be emptied: call it again once it is not.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        _withhold(error)
        frames = []
        step = error.__traceback__
        while step is not None:
            frames.append((str(step.tb_frame.f_globals.get("__name__")), step.tb_frame))
            step = step.tb_next
        is_ours = any(module.startswith(_OURS) for module, _ in frames)
        is_callee = False
        for module, frame in frames:
            is_callee = is_callee or module.startswith(_CALLERS)
            if is_callee or (is_ours and module.startswith((_OURS, *_DJANGO))):
                with suppress(RuntimeError):  # it is still at work
                    frame.clear()
        error = error.__cause__ or error.__context__


def _withhold(error: BaseException) -> None:
    """Take the document out of what PyMongo 4.15.1 says of one that BSON does not hold."""
    if isinstance(error, InvalidDocument) and len(error.args) == 1:
        _, found, kind = str(error).rpartition(", of type: ")
        if found:
            error.args = (f"cannot encode a value of to_document(), of type: {kind}",)


class PayloadFilter(logging.Filter):
    """Cut what PyMongo logs of commands and replies, at level DEBUG, where values begin.

    In our documents nothing but the id and dates stands before the payload; `errInfo` quotes what a
    validator has refused.
    """

    collections: set[str]

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if it is of sessions, and let it pass."""
        text = record.getMessage()
        values = any(mark in text for mark in _MARKS)
        if values and any(name in text for name in self.collections):
            record.msg, record.args = _cut(text), None
        return True


_MARKS = ("payload", "errInfo")


def _cut(text: str) -> str:
    try:
        fields = json.loads(text)
        for name in {"command", "reply", "failure"} & fields.keys():
            for mark in _MARKS:
                shown, found, _ = str(fields[name]).partition(f'"{mark}"')
                if found:
                    fields[name] = f"{shown}{found}: ... (not shown)"
        return json.dumps(fields)
    except (ValueError, AttributeError):  # no text of PyMongo's
        return text


_payload_filter = PayloadFilter()
_payload_filter.collections = set()


def redact_commands(collection: str) -> None:
    """Let PyMongo's log of commands show no values of a collection. Twice does no harm."""
    _payload_filter.collections.add(collection)
    logging.getLogger("pymongo.command").addFilter(_payload_filter)
