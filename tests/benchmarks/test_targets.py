"""Whether a run met the targets."""

import pytest

from benchmarks import targets
from benchmarks.cases import OWN_CPU
from benchmarks.contenders import BACKEND, CACHE, OURS, POSTGRESQL, RAW

CASES = ["load", "save", "load-change-save", "login", "64 tasks", OWN_CPU]


def results():
    """Return a run in which every target is just met."""
    measured = {(case, OURS): {"median": 300, "per_second": 4_000} for case in CASES}
    measured["load", RAW] = {"median": 300 / 1.15}
    measured["save", RAW] = {"median": 300 / 1.20}
    measured[OWN_CPU, OURS] = {"median": 50 / 1.15}
    measured["load-change-save", POSTGRESQL] = {"median": 600}
    measured["load-change-save", BACKEND] = {"median": 1_200}
    measured["load-change-save", CACHE] = {"median": 300 / 1.1}
    measured["login", CACHE] = {"median": 300}
    measured["64 tasks", POSTGRESQL] = {"per_second": 1_000}
    return {
        "cases": [
            {
                "case": case,
                "bytes": 400,
                "results": {name: one for (its, name), one in measured.items() if its == case},
            }
            for case in CASES
        ],
        "growth": {
            "stored": [1_000, 2_000_000],
            "speed": {case: [{"median": 100}, {"median": 120}] for case in ("load", "save")},
            "memory": [(50, 10), (100, 100), (1_000, 105)],
        },
        "counts": {"differences": []},
    }


def missed(run):
    return [one.what for one in targets.judge(run) if not one.met]


def test_a_figure_equal_to_its_bound_meets_the_target():
    run = results()

    assert missed(run) == []
    assert len(list(targets.judge(run))) == 12


@pytest.mark.parametrize(("position", "what"), [(0, "load"), (1, "save"), (5, "own")])
def test_the_engine_is_judged_by_its_medians(position, what):
    run = results()
    run["cases"][position]["results"][OURS]["median"] *= 1.01

    [name] = missed(run)
    assert what in name


def test_the_engines_own_time_is_judged_relative_to_a_find_on_the_same_machine():
    run = results()
    run["cases"][0]["results"][OURS]["median"] /= 2
    run["cases"][0]["results"][RAW]["median"] /= 2

    [name] = missed(run)
    assert "own time" in name


def test_memory_may_not_grow_after_a_tenth_of_the_sessions():
    run = results()
    run["growth"]["memory"][-1] = (1_000, 106)

    [name] = missed(run)
    assert "memory" in name


def test_counts_that_differ_miss_a_target():
    run = results()
    run["counts"]["differences"] = ["load, 0.4 kB: beside 327, expected 326"]

    assert missed(run) == ["commands and bytes sent"]
