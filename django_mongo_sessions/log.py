"""A filter for LOGGING: one record of an outage, and not one for each request."""

from __future__ import annotations

import logging
import os
import threading
import time

from django_mongo_sessions.connection import errors


class LimitOutages(logging.Filter):
    """Lets one record of an outage pass per process and period, and any other record always.

    An outage is what has status 503 with the middleware, also as the cause of another exception, or
    in a group of exceptions. It is recognized by the record's `exc_info`.
    """

    def __init__(self, period: float = 600.0) -> None:
        """`period` is in seconds; it begins with the record that passes."""
        super().__init__()
        self.period = period
        # By process: a lock that another thread holds during a fork stays held in the child.
        self._processes: dict[int, _Process] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes."""
        if not record.exc_info or not errors.stems_from_outage(record.exc_info[1]):
            return True
        process = self._processes.setdefault(os.getpid(), _Process())
        with process.lock:
            now = time.monotonic()
            if now < process.quiet_until:
                return False
            process.quiet_until = now + self.period
            return True


class _Process:
    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may log too, in the thread that holds it
        self.quiet_until = 0.0
