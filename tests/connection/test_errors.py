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
def test_which_errors_are_outages(error, is_one):
    assert errors.is_outage(error) is is_one


def test_another_refusal_is_explained_in_the_servers_words():
    error = OperationFailure("not authorized to execute command { shutdown: 1 }", 13)

    assert errors.explain(error) == str(error)
