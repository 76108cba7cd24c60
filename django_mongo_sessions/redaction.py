"""What logs and error reports may show: no key of a session, and no value.

No I/O happens here.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress

_MODULES = ("django_mongo_sessions.", "pymongo.", "bson.")
_CODEC = "django_mongo_sessions.codec"  # what it calls is a serializer's


def forget_values(error: BaseException | None) -> None:
    """Empty the variables of the frames in which an error was raised and passed on.

    Their lines stay. Only those of ours, of PyMongo's and of the serializer's: Django's error pages
    and mails show the variables of each frame, and these hold keys, documents and data.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        step, is_serializer = error.__traceback__, False
        while step is not None:
            module = str(step.tb_frame.f_globals.get("__name__"))
            is_serializer = is_serializer or module == _CODEC
            if is_serializer or module.startswith(_MODULES):
                with suppress(RuntimeError):  # it is still at work: whoever drives the verb
                    step.tb_frame.clear()
            step = step.tb_next
        error = error.__cause__ or error.__context__


class PayloadFilter(logging.Filter):
    """Cut what PyMongo logs of commands and replies, at level DEBUG, where the payload begins.

    In our documents nothing but the id and dates stands before it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and let it pass."""
        text = record.getMessage()
        if '\\"payload\\"' in text:
            fields = json.loads(text)
            for name in ("command", "reply"):
                shown, found, _ = fields.get(name, "").partition('"payload"')
                if found:
                    fields[name] = f'{shown}"payload": ... (not shown)'
            record.msg, record.args = json.dumps(fields), None
        return True


_payload_filter = PayloadFilter()


def redact_commands() -> None:
    """Let PyMongo's log of commands show no payload. Once is enough, more do no harm."""
    logging.getLogger("pymongo.command").addFilter(_payload_filter)
