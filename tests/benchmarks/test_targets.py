"""Whether a run met the targets."""

import pytest

from benchmarks import targets
from benchmarks.cases import GROWN, OWN_CPU
from benchmarks.contenders import ALONE, BACKEND, CACHE, OURS, POOL, POSTGRESQL, RAW

READS_AND_WRITES = "view that reads and writes"
ONE = ["1 task", "1 thread"]
CASES = ["load", "save", "load-change-save", "login", "64 tasks", OWN_CPU]
CASES += ["16 threads", READS_AND_WRITES, *ONE]


def results():
    """Return a run in which every target is just met."""
    measured = {(case, OURS): {"median": 300, "per_second": 8_000, "cpu": 250} for case in CASES}
    measured["load", RAW] = {"median": 300 / 1.25}
    measured["save", RAW] = {"median": 300 / 1.20}
    measured[OWN_CPU, OURS] = {"median": 50 / 1.25}
    measured["load-change-save", RAW] = {"cpu": 200}
    measured["load-change-save", POSTGRESQL] = {"median": 600}
    measured["load-change-save", BACKEND] = {"median": 1_200}
    measured["load-change-save", CACHE] = {"median": 300 / 1.1}
    measured["login", CACHE] = {"median": 300}
    measured["login", POSTGRESQL] = {"median": 600}
    measured["64 tasks", RAW] = {"per_second": 8_000 / 3}
    measured["64 tasks", POSTGRESQL] = {"per_second": 500}
    measured["64 tasks", POOL] = {"per_second": 1_000}
    measured["64 tasks", CACHE] = {"per_second": 8_000 / 3}
    measured["16 threads", RAW] = {"per_second": 8_000 / 1.8}
    measured[READS_AND_WRITES, POOL] = {"per_second": 2_000}
    for case in ONE:
        measured[case, ALONE] = {"median": 300 / 1.02}
    turnarounds = {OURS: 2, POSTGRESQL: 4}
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
            "speed": {case: [{"median": 100}, {"median": 120}] for case in GROWN},
            "memory": [(50, 10), (100, 100), (1_000, 105)],
        },
        "network": {"turnarounds": dict.fromkeys(["load-change-save", "login"], turnarounds)},
        "counts": {"differences": []},
    }


def missed(run):
    return [one.what for one in targets.judge(run) if not one.met]


def test_a_figure_equal_to_its_bound_meets_the_target():
    run = results()

    assert missed(run) == []
    assert len(list(targets.judge(run))) == 24


def test_an_engine_without_coalescing_is_not_compared_with_itself():
    run = results()
    for row in run["cases"]:
        row["results"].pop(ALONE, None)

    assert missed(run) == []
    assert len(list(targets.judge(run))) == 22


@pytest.mark.parametrize(
    ("case", "targets_missed"), [("64 tasks", 3), ("16 threads", 1), (READS_AND_WRITES, 1)]
)
def test_throughput_is_judged_relative_to_the_fastest_of_the_others(case, targets_missed):
    run = results()
    [row] = [row for row in run["cases"] if row["case"] == case]
    row["results"][OURS]["per_second"] *= 0.99

    assert len(missed(run)) == targets_missed


@pytest.mark.parametrize("case", ["load-change-save", "login"])
def test_a_round_trip_more_costs_its_time(case):
    run = results()
    run["network"]["turnarounds"] = {
        each: {OURS: 2 + (each == case), POSTGRESQL: 4} for each in ["load-change-save", "login"]
    }

    assert missed(run) == [f"{case} at 0.5 ms a round trip: speed relative to `db` on PostgreSQL"]


@pytest.mark.parametrize("case", ONE)
def test_coalescing_costs_nothing_where_nothing_else_is_under_way(case):
    run = results()
    [row] = [row for row in run["cases"] if row["case"] == case]
    row["results"][OURS]["median"] *= 1.01

    assert missed(run) == [f"{case}: time relative to `COALESCE = False`"]


def test_processor_time_is_judged():
    run = results()
    [row] = [row for row in run["cases"] if row["case"] == "load-change-save"]
    row["results"][OURS]["cpu"] *= 1.01

    assert missed(run) == ["load-change-save: processor time relative to PyMongo"]


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


@pytest.mark.parametrize("case", GROWN)
def test_many_stored_sessions_may_cost_a_fifth_more(case):
    run = results()
    run["growth"]["speed"][case][-1]["median"] *= 1.01

    assert missed(run) == [f"`{case}` with 2,000,000 stored sessions: time relative to 1,000"]


def test_memory_may_not_grow_after_a_tenth_of_the_sessions():
    run = results()
    run["growth"]["memory"][-1] = (1_000, 106)

    [name] = missed(run)
    assert "memory" in name


def test_counts_that_differ_miss_a_target():
    run = results()
    run["counts"]["differences"] = ["load, 0.4 kB: beside 327, expected 326"]

    assert missed(run) == ["commands and bytes sent"]
