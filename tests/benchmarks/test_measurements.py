"""Rounds, their summaries, and the measured sessions."""

import pytest

from benchmarks import measurements, payloads


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (75, 3), (99, 4), (0, 1)])
def test_a_percentile_is_one_of_the_values(percent, value):
    assert measurements.percentile([1, 2, 3, 4], percent) == value


def test_a_summary_is_in_microseconds_and_covers_all_rounds():
    measured = [
        {"durations": [1_000, 3_000], "wall": 5_000, "cpu": 2_000},
        {"durations": [5_000, 7_000], "wall": 15_000, "cpu": 6_000},
    ]

    assert measurements.summary(measured) == {
        "operations": 4,
        "rounds": 2,
        "median": 4,
        "p99": 7,
        "fastest_round": 2,
        "slowest_round": 6,
        "cpu": 2,
        "per_second": 200_000,
    }


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_a_case_has_at_least_the_requested_operations(concurrency):
    number_of_rounds, size = measurements.plan(measurements.OPERATIONS, concurrency)

    assert number_of_rounds * size >= measurements.OPERATIONS
    assert size >= concurrency


@pytest.mark.parametrize("size", payloads.SIZES)
@pytest.mark.parametrize("signed_in", [True, False])
def test_a_session_has_its_exact_size_before_and_after_a_change(size, signed_in):
    session = payloads.data(size, signed_in)

    assert payloads.length(session) == size
    session["count"] = payloads.next_count(session["count"])
    assert payloads.length(session) == size
    assert payloads.data(size, signed_in)["count"] == 1_000
