"""What is sent, and what is expected of it."""

import pytest

from benchmarks import counts
from benchmarks.cases import MATRIX, OWN_CPU
from benchmarks.cases.counted import Sent

FIND, UPDATE = Sent("find", 300, 0), Sent("update", 350, 433)


def test_an_operations_share_is_whole_when_all_have_sent_the_same():
    row = counts.averaged([FIND, UPDATE, FIND, UPDATE], operations=2)

    assert row == {"commands": {"find": 1, "update": 1}, "beside": 650, "payload": 433}


def test_one_command_more_of_one_operation_shows():
    row = counts.averaged([FIND, UPDATE, FIND, UPDATE, FIND], operations=2)

    assert row["commands"] == {"find": 1.5, "update": 1}


def test_of_compressed_payloads_no_bytes_are_told():
    assert counts.averaged([UPDATE._replace(payload=None)], operations=1)["payload"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"beside": 651}, ["load, 0.4 kB: beside 651, expected 650"]),
        ({"commands": {}}, ["load, 0.4 kB: commands {}, expected {'find': 1}"]),
        (
            {"case": "login"},
            ["login, 0.4 kB: nothing is expected", "load, 0.4 kB: not measured"],
        ),
    ],
)
def test_what_differs_is_said(change, words):
    row = {"case": "load", "bytes": 400, "commands": {"find": 1}, "beside": 650, "payload": 0}

    assert counts.differences([row | change], [row]) == words


def test_something_is_expected_of_every_case():
    rows = [(row["case"], row["bytes"]) for row in counts.expected()]

    assert rows == [each for each in MATRIX if each[0] != OWN_CPU]
