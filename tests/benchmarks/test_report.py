"""The pages that show the results of a run."""

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cases import TASKS
from benchmarks.contenders import CACHE, OURS, POSTGRESQL, RAW

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_the_pages_have_markers_for_the_figures(page):
    text = (ROOT / page).read_text()

    written = report.between_markers(text, "| figures |")

    assert "| figures |" in written
    assert report.between_markers(written, "others").count("figures |") == 0
    assert written.startswith(text.partition(report.BEGIN)[0])
    assert written.endswith(text.partition(report.END)[2])


def test_a_page_without_markers_is_an_error():
    with pytest.raises(ValueError, match="does not have the markers"):
        report.between_markers("# A page", "| figures |")


def results():
    """Return the parts of a run that the README and the tables of the network show."""
    median = {OURS: 900.0, POSTGRESQL: 1_000.0, RAW: 700.0, CACHE: 400.0, "file": 300.0}
    cases = {
        case: {name: {"median": each, "per_second": each * 2} for name, each in median.items()}
        for case in ["load", "login", *TASKS]
    }
    return {
        "machine": {"cores": 2, "processor": "a processor"},
        "cases": [{"case": case, "bytes": 400, "results": each} for case, each in cases.items()],
        "network": {
            "turnarounds": {"login": {OURS: 3.0, POSTGRESQL: 9.0, "file": 0.0}},
            "checks": [
                {
                    "contender": OURS,
                    "case": "login",
                    "round_trip": 0.5,
                    "expected": 1.5,
                    "measured": 1.523,
                }
            ],
        },
    }


def test_the_readme_has_three_lines_and_the_picture():
    text = report.readme(results())

    lines = " ".join(text.split()).split(" - ")
    assert "**64 requests at once in one process:** 1,800 sessions" in lines[1]
    assert "a load takes 900 µs. PyMongo's own call takes 700, and `db` 1000" in lines[2]
    assert "a login takes 2.4 ms, in 3 round trips. With `db`, it takes 5.5 ms, in 9." in lines[3]
    assert text.endswith("](docs/_static/speed.svg)")
    assert max(map(len, text.splitlines()[:-1])) <= 100


def test_times_on_a_network_are_those_on_loopback_and_the_round_trips():
    lines = report.on_a_network(results()).splitlines()

    assert "| django_mongo_sessions | 3 | 0.90 | 1.65 | 2.40 | 3.90 |" in lines
    assert "| Django db, PostgreSQL | 9 | 1.00 | 3.25 | 5.50 | 10.00 |" in lines
    assert "| django_mongo_sessions | login | 1.52 (1.50) |" in lines
    assert not any("Django file" in line for line in lines)


def test_a_table_has_only_contenders_with_figures_and_shows_their_durability():
    run = {"cases": [{"case": "load", "bytes": 400, "results": {"file": {"median": 34.4}}}]}

    table = report.side_by_side(run, ["load", "login"], 400, lambda one: f"{one['median']:.0f}")

    assert table.splitlines() == [
        "|  | load | durability |",
        "| --- | --- | --- |",
        "| Django file | 34 | none: no fsync |",
    ]
