"""What PyMongo's errors mean."""

import pytest
from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import OperationFailure, WTimeoutError

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
def test_what_is_an_outage(error, is_one):
    assert errors.is_outage(error) is is_one


@pytest.mark.parametrize(
    "label", ["RetryableWriteError", "RetryableError", "SystemOverloadedError"]
)
def test_an_error_of_any_code_is_one_if_the_server_says_to_try_again(label):
    assert errors.is_outage(OperationFailure("busy", 99_999, {"errorLabels": [label]}))
    assert not errors.is_outage(OperationFailure("busy", 99_999, {"errorLabels": ["Other"]}))


def test_another_refusal_is_told_in_the_servers_words():
    error = OperationFailure("not authorized to execute command { shutdown: 1 }", 13)

    assert errors.explain(error) == str(error)
