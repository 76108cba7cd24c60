"""The picture of how fast the engine is."""

import re
from itertools import pairwise
from xml.etree import ElementTree

from benchmarks import picture
from benchmarks.cases import TASKS
from benchmarks.contenders import CACHE, OURS, POSTGRESQL, RAW

RATES = {
    OURS: [1_000, 4_000, 7_000],
    RAW: [1_100, 1_200, 1_190],
    CACHE: [1_500, 1_600, 1_585],
    POSTGRESQL: [800, 800, 789],
}


def results(rates):
    return {
        "cases": [
            {
                "case": case,
                "bytes": 400,
                "results": {name: {"per_second": each[number]} for name, each in rates.items()},
            }
            for number, case in enumerate(TASKS)
        ]
    }


def test_it_has_the_contenders_that_were_measured():
    assert picture.throughput(results(RATES)) == RATES
    assert picture.throughput(results({OURS: [1, 2, 3]})) == {OURS: [1, 2, 3]}


def test_it_is_xml_with_a_line_and_a_label_for_each():
    root = ElementTree.fromstring(picture.svg(RATES))

    lines = root.findall("{*}polyline")
    labels = ["".join(text.itertext()) for text in root.findall("{*}text")]
    assert len(lines) == 4
    assert "django_mongo_sessions: 7,000" in labels
    assert "8,000" in labels  # where the axis ends


def test_no_label_covers_another():
    labels = re.findall(
        r'<text class="(?:ours|raw|cache|db)" x="\d+" y="([\d.]+)"', picture.svg(RATES)
    )

    heights = sorted(map(float, labels))
    assert all(below - above >= 19 for above, below in pairwise(heights))


def test_it_is_described_in_words(tmp_path):
    path = picture.draw(results(RATES), tmp_path)

    assert "by 64 tasks of one process: django_mongo_sessions 7,000, " in path.read_text()
