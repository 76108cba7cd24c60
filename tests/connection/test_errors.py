"""What PyMongo's errors mean."""

import builtins
import copy
import sys

import pytest
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import (
    AutoReconnect,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from django_mongo_sessions.connection import errors
from django_mongo_sessions.exceptions import ServerUnavailable


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (ServerUnavailable("away"), True),
        (WTimeoutError("not confirmed", 64), True),
        (OperationFailure("exceeded time limit", 50), True),
        (OperationFailure("not authorized", 13), False),
        (UpdateError("the session is gone"), False),
    ],
)
def test_which_errors_are_outages(error, is_one):
    assert errors.is_outage(error) is is_one


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (InvalidOperation("Cannot use MongoClient after close"), True),
        (InvalidOperation("Cannot use AsyncMongoClient after close"), True),
        (PyMongoError("Attempted to check out a connection from closed connection pool"), True),
        (InvalidOperation("Cannot use ended session"), False),
        (AutoReconnect("connection closed"), False),
        (ValueError("Cannot use MongoClient after close"), False),
    ],
)
def test_what_shows_that_a_client_was_closed(error, is_so):
    assert errors.client_was_closed(error) is is_so


@pytest.mark.parametrize(
    "label", ["RetryableWriteError", "RetryableError", "SystemOverloadedError"]
)
def test_an_error_of_any_code_is_one_if_the_server_says_to_try_again(label):
    assert errors.is_outage(OperationFailure("busy", 99_999, {"errorLabels": [label]}))
    assert not errors.is_outage(OperationFailure("busy", 99_999, {"errorLabels": ["Other"]}))


def test_another_refusal_is_explained_in_the_servers_words():
    reply = {"ok": 0.0, "errmsg": "Authentication failed.", "code": 18}
    error = OperationFailure(reply["errmsg"], 18, reply)

    assert "full error" in str(error)
    assert errors.explain(error) == "Authentication failed"


def test_a_refusal_of_another_command_names_no_privilege():
    error = OperationFailure("not authorized to execute command { shutdown: 1 }", 13)

    assert errors.explain(error) == str(error)


def test_an_explanation_leaves_out_what_to_try():
    error = errors.advise(ServerUnavailable("down at a:1: refused"), "Start it.")

    for each in (error, copy.deepcopy(error)):  # one that several requests meet is copied
        assert str(each) == "down at a:1: refused. Start it."
        assert errors.explain(each) == "down at a:1: refused"


def raised(error, cause=None, context=None):
    """Return an exception as if it was raised from another one, or while one was handled."""
    error.__context__, error.__cause__ = context, cause
    error.__suppress_context__ = cause is not None
    return error


def test_what_was_raised_because_of_an_outage():
    outage, bug = AutoReconnect("cut"), ValueError("no cart")

    for error in (outage, raised(bug, cause=outage), raised(bug, context=outage)):
        assert errors.stems_from_outage(error)
    raised(bug, context=outage).__suppress_context__ = True  # by `raise … from None`
    assert not errors.stems_from_outage(bug)
    assert not errors.stems_from_outage(raised(bug, cause=bug))
    assert not errors.stems_from_outage(None)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups of exceptions")
def test_what_was_raised_because_of_outages_of_several_tasks():
    outage = AutoReconnect("cut")
    group = builtins.ExceptionGroup(
        "tasks", [ValueError("no cart"), raised(KeyError("a"), cause=outage)]
    )

    assert errors.stems_from_outage(raised(ValueError("no cart"), context=group))
    assert not errors.stems_from_outage(builtins.ExceptionGroup("tasks", [ValueError("no cart")]))
    raised(outage, context=group)  # as if a view raised one of its exceptions
    assert len(list(errors.shown(outage))) == 4
