"""What coverage traces: the package's imports, and what the body of a test calls.

While it traces, every line of pytest, Hypothesis, PyMongo and Django costs half as much again. So
neither the collection of tests is traced, nor fixtures, nor tests with the mark `untraced`, such as
property tests.
"""

from __future__ import annotations

import gc
import sys
import threading
from importlib import import_module
from pkgutil import walk_packages

import pytest
from asgiref.sync import SyncToAsync

import django_mongo_sessions

_IS_COVERED = "coverage" in sys.modules
_TRACERS = sys.gettrace(), threading.gettrace()  # coverage's, if it runs


def pytest_configure(config):
    config.addinivalue_line("markers", "untraced: is costly to trace, and covers no line alone")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Trace nothing from here on. Let the garbage collector ignore the thousands of tests, too."""
    if _IS_COVERED:
        for module in walk_packages(django_mongo_sessions.__path__, "django_mongo_sessions."):
            import_module(module.name)
        # The thread for blocking code begins here, to be traced whichever test comes first.
        SyncToAsync.single_thread_executor.submit(int).result()
        _trace(None, None)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if item.get_closest_marker("untraced"):
        return (yield)
    _trace(*_TRACERS)
    try:
        return (yield)
    finally:
        _trace(None, None)


def _trace(here, in_new_threads):
    """Let these trace this thread, and the threads that begin from now on."""
    if _IS_COVERED:
        sys.settrace(here)
        threading.settrace(in_new_threads)
