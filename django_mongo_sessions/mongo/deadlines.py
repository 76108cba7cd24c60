"""The deadlines of calls, and those that the callers have set by `pymongo.timeout()`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pymongo

# PyMongo has no public way to ask for the caller's deadline. Without this one it is not known.
remaining: Callable[[], float | None] = getattr(
    getattr(pymongo, "_csot", None), "remaining", lambda: None
)


def within(seconds: float | None) -> AbstractContextManager[None]:
    """Let calls end within that many seconds, or within the caller's own time if that is shorter.

    None sets no limit.
    """
    # pymongo.timeout(None) would lift a limit that the caller has set.
    return nullcontext() if seconds is None else pymongo.timeout(seconds)
