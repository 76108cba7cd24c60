"""How often, and how patiently, a write that was overtaken is tried again. No I/O happens here."""

from __future__ import annotations

import random
from collections.abc import Iterator

from django_mongo_sessions.drivers import Wait
from django_mongo_sessions.exceptions import SessionConflict

_MOST = 200
# Seconds. Of many that race for a large session in one event loop, shorter pauses let everybody be
# overtaken by everybody else: 32 requests at once took twice as long with 0.004 and 0.25.
_FIRST_WAIT, _LONGEST_WAIT = 0.032, 1.0


def pauses() -> Iterator[Wait]:
    """Yield the pauses after attempts, of full jitter, each longer on average than the one before.

    Raises SessionConflict after the last attempt.
    """
    for attempt in range(_MOST - 1):
        yield Wait(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)))
    raise SessionConflict(f"{_MOST} attempts to store the session were overtaken")
