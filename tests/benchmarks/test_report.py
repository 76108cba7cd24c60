"""The pages that show the results of a run."""

from pathlib import Path

import pytest

from benchmarks import report

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


def test_a_table_has_only_contenders_with_figures_and_shows_their_durability():
    run = {"cases": [{"case": "load", "bytes": 400, "results": {"file": {"median": 34.4}}}]}

    table = report.side_by_side(run, ["load", "login"], 400, lambda one: f"{one['median']:.0f}")

    assert table.splitlines() == [
        "|  | load | durability |",
        "| --- | --- | --- |",
        "| Django file | 34 | none: no fsync |",
    ]
