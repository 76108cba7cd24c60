"""The test runs of a site: they use databases of their own, and drop what they have stored there.

Django sends no signal when its test environment is set up or torn down. But it keeps what it has to
restore, and deletes that at the end, whichever runner calls it. So this module looks there to find
out whether tests run, and adds an object whose finalizer is called at the end of the test run.
"""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from django_mongo_sessions.conf import conf

PREFIX = "test_"  # as Django's, for the databases of DATABASES
EXIT_PRIORITY = 10  # of what a worker does when it exits: early
_LONGEST = 63  # bytes of a name that MongoDB accepts


class Drop(NamedTuple):
    """How a collection is dropped."""

    do: Callable[[], None]
    is_needless: Callable[[], bool]  # whether nothing is stored there, since no server has replied


def environment() -> Any:
    """Return what Django keeps while its test environment is set up; None if it is not."""
    utils = sys.modules.get("django.test.utils")  # which is imported for tests alone
    return None if utils is None else getattr(utils._TestState, "saved_data", None)


def place() -> tuple[Any, ...]:
    """Return what distinguishes the database of a test run with these settings; () for a site's."""
    return () if environment() is None else (*conf.TEST.items(), _process())


def database(live: str, test: str | None = None) -> str:
    """Return the name of the database that a test run uses instead of the site's.

    `test` is the name for test runs of an entry of DATABASES. Raises ImproperlyConfigured if the
    name is the site's own, or is too long.
    """
    chosen = conf.TEST.get("DATABASE")
    if chosen == live != test:
        raise ImproperlyConfigured(
            f"MONGO_SESSIONS['TEST'] names the site's own database, {live!r}, whose sessions a "
            "test run would delete. Name another one."
        )
    name = chosen or test or PREFIX + live
    process = _process()
    if process and not name.endswith(f"_{process}"):  # Django or pytest-django may have added it
        name = f"{name}_{process}"
    if len(name.encode()) > _LONGEST:
        raise ImproperlyConfigured(
            f"The name of the test database, {name!r}, is longer than MongoDB's {_LONGEST} bytes. "
            "Name a shorter one in MONGO_SESSIONS['TEST']['DATABASE']."
        )
    return name


def _process() -> str:
    """Return what distinguishes this process from others that run tests at the same time, or ""."""
    names = [os.environ.get("TOX_PARALLEL_ENV"), os.environ.get("PYTEST_XDIST_WORKER"), _worker()]
    return "_".join(re.sub(r'[/\\. "$]', "_", str(name)) for name in names if name)


def _worker() -> int:
    """Return the number of this process among those of `manage.py test --parallel`; else 0."""
    return getattr(sys.modules.get("django.test.runner"), "_worker_id", 0)


# The end of a test run


class _Run:
    """What is to be done when a test run ends in this process."""

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.drops: dict[Hashable, Drop] = {}
        end = partial(_end, os.getpid(), self.drops)
        weakref.finalize(self, end).atexit = False
        if worker:  # it exits as soon as it has run its tests, and tears nothing down
            from multiprocessing.util import Finalize  # which a site does not need

            Finalize(None, end, exitpriority=EXIT_PRIORITY)


def drop_at_end(test_run: Any, place: Hashable, drop: Drop) -> None:
    """Drop what is at a place when the test run ends, unless the runner keeps its databases.

    It is dropped once, however many clients have used it. If a test forks, the child has the same
    test run, and must not end it.
    """
    kept = vars(test_run)
    # Of two threads that come at once, both get the same; the other one has nothing to drop.
    run = kept.get("mongo_sessions") or kept.setdefault("mongo_sessions", _Run(_worker()))
    if run.worker != _worker():
        run = kept["mongo_sessions"] = _Run(_worker())
    if place not in run.drops or run.drops[place].is_needless():
        run.drops[place] = drop


def _end(process: int, drops: dict[Hashable, Drop]) -> None:
    if process == os.getpid() and not _keeps_databases():
        for drop in drops.values():
            if not drop.is_needless():
                drop.do()


def _keeps_databases() -> bool:
    """Return whether the test runner was told to keep its databases.

    No runner publishes that. But Django's is among the callers, and so is pytest's configuration. A
    worker that was not forked has the runner's command line instead.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if getattr(frame.f_locals.get("self"), "keepdb", None) is True:
            return True
        options = getattr(frame.f_locals.get("config"), "option", None)
        if getattr(options, "reuse_db", None) is True:
            return True
        frame = frame.f_back
    return _worker() > 0 and "--keepdb" in sys.argv
