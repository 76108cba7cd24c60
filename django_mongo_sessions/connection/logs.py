"""No value of a session in PyMongo's log of commands."""

from __future__ import annotations

import json
import logging


class PayloadFilter(logging.Filter):
    """Cut what PyMongo logs of commands and replies, at level DEBUG, before the first value.

    In our documents only the id and dates come before the payload. `errInfo` quotes what a
    validator has refused.
    """

    collections: set[str]

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if it belongs to sessions, and let it pass."""
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
    except (ValueError, AttributeError):  # not a message of PyMongo's
        return text


_payload_filter = PayloadFilter()
_payload_filter.collections = set()


def redact_commands(collection: str) -> None:
    """Keep the values of a collection out of PyMongo's log of commands. Idempotent."""
    _payload_filter.collections.add(collection)
    logging.getLogger("pymongo.command").addFilter(_payload_filter)
