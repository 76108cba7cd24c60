"""The cases: their names, and the sizes of a session at which each is measured.

Each module has the cases of one kind of contender.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.payloads import SIZES

Operation = Callable[[], object]
AsyncOperation = Callable[[], Awaitable[object]]

VERBS = ["load", "save", "load-change-save", "first save", "login", "logout", "unchanged save"]
REQUESTS = ["WSGI request", "ASGI request"]
TASKS = ["1 task", "8 tasks", "64 tasks"]
THREADS = ["1 thread", "8 threads", "16 threads"]
# The engine's own processor time, without MongoDB and PyMongo.
OWN_CPU = "own CPU"
# With many stored sessions. The last one is a sign-in that ends the user's oldest session.
LIST, COUNT, LIMITED = "list a user's sessions", "count", "sign in under a limit"
GROWN = ["load", "save", LIST, COUNT, LIMITED]
ALL = [*VERBS, *REQUESTS, *TASKS, *THREADS]

# Every case is measured at 0.4 kB: the smaller a session, the more the overhead shows. The larger
# sizes are measured for the cases in which the size matters, on the way to the server and back.
_SMALL, _MEDIUM, _LARGE = SIZES
MATRIX = [
    *((case, _SMALL) for case in [*ALL, OWN_CPU]),
    *((case, _MEDIUM) for case in ["load", "save", "load-change-save", "first save"]),
    *((case, _LARGE) for case in ["load", "load-change-save"]),
    *(("WSGI request", size) for size in (_MEDIUM, _LARGE)),
]


# Cases whose round trips are counted, and timed with a network in between.
NETWORK = ["load", "load-change-save", "login"]
# A view of a site that uvicorn serves, by the path of the view. It has 64 requests at once.
VIEWS = {"view that reads": "/read", "view that reads and writes": "/async"}


def concurrency(case: str) -> int:
    """Return how many operations of a case run at the same time."""
    return int(case.split()[0]) if case in [*TASKS, *THREADS] else 1
