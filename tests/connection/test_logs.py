"""PyMongo's log of commands, but for what is of sessions."""

import json
import logging

import pytest
from pymongo import MongoClient

from django_mongo_sessions.connection import logs


def test_what_is_not_of_sessions_stays_as_it_is(mongod_uri, caplog):
    logs.redact_commands("sessions")
    logs.redact_commands("sessions")
    caplog.set_level(logging.DEBUG, "pymongo")

    with MongoClient(mongod_uri) as client:
        client.test.command("ping", comment="a word")

    [message] = [one for one in map(logging.LogRecord.getMessage, caplog.records) if "word" in one]
    assert json.loads(message)["commandName"] == "ping"


@pytest.mark.parametrize(
    "text",
    [
        'no JSON, \\"payload\\" of sessions',
        '["a list", "payload", "sessions"]',
        '{"command": null, "payload": "sessions"}',
        '{"command": "{\\"insert\\": \\"events\\", \\"payload\\": 1}"}',
    ],
)
def test_what_others_log_is_left_alone(text):
    logs.redact_commands("sessions")
    record = logging.LogRecord("pymongo.command", 10, __file__, 1, text, None, None)

    for each in logging.getLogger("pymongo.command").filters:
        assert each.filter(record)

    shown = record.getMessage()
    assert shown == text or json.loads(shown) == json.loads(text)
