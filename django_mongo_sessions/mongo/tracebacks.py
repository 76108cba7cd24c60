"""No key and no value of a session in a traceback with variables.

Django's error pages and mails show the variables of each frame, and so do error trackers.
"""

from __future__ import annotations

from contextlib import suppress

from bson.errors import InvalidDocument

_PACKAGE = "django_mongo_sessions."
# Code that these call gets keys, documents and data: a serializer, a socket.
_CALLERS = (f"{_PACKAGE}storage.codec", "pymongo.", "bson.")
# These hold what is stored in the session when they call us.
_DJANGO = ("django.contrib.sessions.", "django.contrib.auth")


def forget_values(error: BaseException | None) -> None:
    """Empty the variables of the frames that an error of the engine has passed through.

    Its lines stay. Only frames of this package, PyMongo, the serializer, and Django's sessions and
    logins are emptied. A frame that still runs cannot be emptied: call this again once it has
    returned.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        _withhold_document(error)
        frames = []
        step = error.__traceback__
        while step is not None:
            frames.append((str(step.tb_frame.f_globals.get("__name__")), step.tb_frame))
            step = step.tb_next
        is_ours = any(module.startswith(_PACKAGE) for module, _ in frames)
        is_callee = False
        for module, frame in frames:
            is_callee = is_callee or module.startswith(_CALLERS)
            if is_callee or (is_ours and module.startswith((_PACKAGE, *_DJANGO))):
                with suppress(RuntimeError):  # it still runs
                    frame.clear()
        error = error.__cause__ or error.__context__


def _withhold_document(error: BaseException) -> None:
    """Remove the document that PyMongo 4.15.1 quotes if BSON cannot encode it."""
    if isinstance(error, InvalidDocument) and len(error.args) == 1:
        _, found, kind = str(error).rpartition(", of type: ")
        if found:
            error.args = (f"cannot encode a value of to_document(), of type: {kind}",)
