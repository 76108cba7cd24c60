"""Counts of what is sent, and how they are compared with the expected ones."""

import pytest

from benchmarks import counts
from benchmarks.cases.counted import Sent

FIND, UPDATE = Sent("find", 300, 0), Sent("update", 350, 433)


def test_the_average_is_whole_if_all_operations_send_the_same():
    row = counts.average([FIND, UPDATE, FIND, UPDATE], operations=2)

    assert row == {"commands": {"find": 1, "update": 1}, "beside": 650, "payload": 433}


def test_one_more_command_in_one_operation_changes_the_average():
    row = counts.average([FIND, UPDATE, FIND, UPDATE, FIND], operations=2)

    assert row["commands"] == {"find": 1.5, "update": 1}


def test_the_bytes_of_compressed_payloads_are_not_counted():
    assert counts.average([UPDATE._replace(payload=None)], operations=1)["payload"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"beside": 651}, ["load, 0.4 kB: beside 651, expected 650"]),
        ({"commands": {}}, ["load, 0.4 kB: commands {}, expected {'find': 1}"]),
        (
            {"case": "login"},
            ["login, 0.4 kB: not expected", "load, 0.4 kB: not measured"],
        ),
    ],
)
def test_differences_are_described(change, words):
    row = {"case": "load", "bytes": 400, "commands": {"find": 1}, "beside": 650, "payload": 0}

    assert counts.differences([row | change], [row]) == words


def test_every_case_has_expected_counts():
    rows = [(row["case"], row["bytes"]) for row in counts.expected()]

    assert rows == counts.COUNTED_CASES
