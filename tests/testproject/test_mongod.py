"""The mongod of the demo and the tests: which one it is, and what is said if it does not start.

tests/servers starts it, and the demo.
"""

import sys
from pathlib import Path

import pytest

from testproject import mongod


def test_the_environment_may_name_another_mongod(monkeypatch):
    monkeypatch.setenv("MONGOD", sys.executable)
    assert mongod.find() == Path(sys.executable)

    monkeypatch.setenv("MONGOD", "/no/such/mongod")
    with pytest.raises(mongod.MongodError, match="MONGOD=/no/such/mongod"):
        mongod.find()


def test_without_a_mongod_the_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("MONGOD", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(mongod, "_DISTRIBUTIONS", ["no-such-distribution"])

    with pytest.raises(mongod.MongodError, match="MONGODB_URI"):
        mongod.find()


def test_a_mongod_that_does_not_start_shows_its_last_lines(monkeypatch, tmp_path):
    monkeypatch.setenv("MONGOD", sys.executable)

    with (
        pytest.raises(mongod.MongodError, match="did not start"),
        mongod.running(tmp_path / "data"),
    ):
        pass


@pytest.mark.parametrize("uri", ["mongodb://127.0.0.1:1/?timeoutMS=100", "http://localhost"])
def test_an_unreachable_server_of_the_users_is_an_error(uri):
    with pytest.raises(mongod.MongodError, match="MONGODB_URI: "):
        mongod.reached(uri)
