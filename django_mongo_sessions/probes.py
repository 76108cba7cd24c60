"""What a serializer of sessions does, found out with harmless data. No I/O happens here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

_PROBE = {"is this": "unpickled?"}


class _Private:
    """What nothing but an unpickler, or its like, makes from bytes."""


def unpickles(serializer: Callable[[], Any]) -> bool:
    """Return whether it opens a plain pickle, or brings back an instance of any class, as one
    does that wraps a pickle in something else.
    """
    return _holds(lambda: serializer().loads(pickle.dumps(_PROBE)) == _PROBE) or _holds(
        lambda: type(serializer().loads(serializer().dumps({"it": _Private()}))["it"]) is _Private
    )


def varies(serializer: Callable[[], Any]) -> bool:
    """Return whether it makes different bytes of the same data."""
    return _holds(lambda: serializer().dumps({**_PROBE}) != serializer().dumps({**_PROBE}))


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except Exception:  # a serializer may raise anything, and should of a pickle
        return False
