"""The inputs of the fuzzer, without coverage."""

import coverage
import pytest


@pytest.fixture(autouse=True, scope="module")
def untraced():
    """Let nothing be traced, since each line is by other tests, and this takes two thirds less."""
    tracing = coverage.Coverage.current()
    if tracing is None:
        yield
        return
    tracing.stop()
    yield
    tracing.start()
