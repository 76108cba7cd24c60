"""Which cases are measured at which sizes of a session. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.payloads import SIZES

Operation = Callable[[], object]
AsyncOperation = Callable[[], Awaitable[object]]

VERBS = ["load", "save", "load-change-save", "first save", "login", "logout", "unchanged save"]
REQUESTS = ["WSGI request", "ASGI request"]
TASKS = ["1 task", "8 tasks", "64 tasks"]
THREADS = ["1 thread", "8 threads"]
# Of the engine's own time, with MongoDB and PyMongo taken away.
OWN_CPU = "own CPU"
ALL = [*VERBS, *REQUESTS, *TASKS, *THREADS]

# Every case is measured at 0.4 kB, where what surrounds a session weighs the most against it.
# Larger ones are measured where their size tells: on the way to the server, and back.
_SMALL, _MEDIUM, _LARGE = SIZES
MATRIX = [
    *((case, _SMALL) for case in [*ALL, OWN_CPU]),
    *((case, _MEDIUM) for case in ["load", "save", "load-change-save", "first save"]),
    *((case, _LARGE) for case in ["load", "load-change-save"]),
    *(("WSGI request", size) for size in (_MEDIUM, _LARGE)),
]


def concurrency(case: str) -> int:
    """Return how many operations of a case are under way at once."""
    return int(case.split()[0]) if case in [*TASKS, *THREADS] else 1
