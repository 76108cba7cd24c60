"""`python -m tests.chaos.forking way`: use sessions in a process and in its forks.

Prints a line of JSON for each process: its id, the ids of the server connections that it has used,
and how many sessions were wrong. Warnings are errors, except for Python's warning of the fork.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable

import django

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.chaos.site import connections

ROUNDS = 20
CHILDREN = 8
THREADS = 64


def visit(mark: str) -> int:
    """Store and read new sessions; return how many were wrong."""
    wrong = 0
    for number in range(ROUNDS):
        store = SessionStore()
        store["mark"] = f"{mark}-{number}"
        store.save()
        there = SessionStore(store.session_key)
        wrong += there.get("mark") != f"{mark}-{number}"
        there.flush()
    return wrong


def report(wrong: int) -> None:
    """Print what this process has done, in one write."""
    os.write(1, f"{json.dumps(connections.report(wrong=wrong))}\n".encode())


def _child() -> None:
    connections.leave_to_children()
    report(visit(str(os.getpid())))


def _multiprocessing(method: str) -> None:
    wrong = visit("parent")
    context = multiprocessing.get_context(method)
    children = [context.Process(target=_begin_and_visit) for _ in range(CHILDREN)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert all(child.exitcode == 0 for child in children)
    report(wrong + visit("parent"))


def _begin_and_visit() -> None:
    django.setup()  # which a spawned process has not done
    _child()


def _fork() -> None:
    """Fork while threads are at work."""
    ended = threading.Event()
    wrong = []

    def work() -> None:
        while not ended.is_set():
            wrong.append(visit(str(threading.get_ident())))

    threads = [threading.Thread(target=work) for _ in range(CHILDREN)]
    for thread in threads:
        thread.start()
    for _ in range(CHILDREN * 2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _child()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    ended.set()
    for thread in threads:
        thread.join()
    report(sum(wrong))


def _threads() -> None:
    wrong = []
    begin = threading.Barrier(THREADS)

    def work() -> None:
        begin.wait()
        wrong.append(visit(str(threading.get_ident())))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == THREADS
    report(sum(wrong))


WAYS: dict[str, Callable[[], None]] = {
    "os.fork under load": _fork,
    "multiprocessing, fork": lambda: _multiprocessing("fork"),
    "multiprocessing, spawn": lambda: _multiprocessing("spawn"),
    "64 threads": _threads,
}

if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    django.setup()
    WAYS[sys.argv[1]]()
