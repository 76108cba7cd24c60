"""Draw the picture of how fast the engine is: an SVG file for the README and docs/speed.md.

Unlike the plots, it has a light and a dark form, and a label at the end of each line.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import payloads
from benchmarks.cases import TASKS, concurrency
from benchmarks.contenders import CACHE, OURS, POSTGRESQL, RAW

# The lines: contenders, with what each is called here, and the class of its line.
_LINES = {
    OURS: ("django_mongo_sessions", "ours"),
    RAW: ("PyMongo, one by one", "raw"),
    CACHE: ("Django cache, Redis", "cache"),
    POSTGRESQL: ("Django db, PostgreSQL", "db"),
}
_WIDTH, _HEIGHT = 760, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 480, 52, 300
_LABEL_HEIGHT = 19
_STYLE = """
    .ground { fill: #ffffff; }
    text { fill: #26302a; }
    .small { font-size: 12px; fill: #5c6861; }
    .grid { stroke: #dde3df; }
    polyline { fill: none; stroke-width: 2; }
    .ours { --line: #1c6e46; }
    .raw { --line: #b3641b; }
    .cache { --line: #7b55b8; }
    .db { --line: #2f74b5; }
    polyline, circle { stroke: var(--line); }
    circle, text.ours, text.raw, text.cache, text.db { fill: var(--line); }
    polyline.ours { stroke-width: 3.5; }
    text.ours { font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #131416; }
      text { fill: #dfe6e2; }
      .small { fill: #9aa69f; }
      .grid { stroke: #2d3330; }
      .ours { --line: #55c48c; }
      .raw { --line: #e0995a; }
      .cache { --line: #b79be6; }
      .db { --line: #6caee6; }
    }
"""


def draw(results: dict[str, Any], folder: Path) -> Path:
    """Draw the picture into a folder, and return its path. The same results make the same bytes."""
    path = folder / "speed.svg"
    path.write_text(svg(throughput(results)))
    return path


def throughput(results: dict[str, Any]) -> dict[str, list[float]]:
    """Return load-change-saves per second, in the order of `TASKS`, by contender."""
    cases = {
        row["case"]: row["results"] for row in results["cases"] if row["bytes"] == payloads.SIZES[0]
    }
    return {
        name: [cases[case][name]["per_second"] for case in TASKS]
        for name in _LINES
        if all(name in cases[case] for case in TASKS)
    }


def describe(rates: dict[str, list[float]]) -> str:
    """Return what the picture shows, for whoever does not see it."""
    last = ", ".join(f"{_LINES[name][0]} {values[-1]:,.0f}" for name, values in rates.items())
    return f"Sessions loaded, changed and saved per second by {TASKS[-1]} of one process: {last}."


def svg(rates: dict[str, list[float]]) -> str:
    """Return the picture of these rates."""
    most = _round_up(max(max(values) for values in rates.values()))
    places = {name: [_y(value, most) for value in values] for name, values in rates.items()}
    labels = _apart({name: ys[-1] for name, ys in places.items()})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' aria-labelledby="title desc" font-family="system-ui, sans-serif" font-size="14">',
        '<title id="title">Sessions loaded, changed and saved per second</title>',
        f'<desc id="desc">{escape(describe(rates))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text x="{_LEFT - 46}" y="28">Sessions loaded, changed and saved per second</text>',
    ]
    for step in range(5):
        value = most * step / 4
        y = _y(value, most)
        parts += [
            f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{value:,.0f}</text>",
        ]
    for number, case in enumerate(TASKS):
        parts.append(
            f'<text class="small" x="{_x(number)}" y="{_BOTTOM + 20}" text-anchor="middle">'
            f"{concurrency(case)}</text>"
        )
    parts.append(
        f'<text class="small" x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 42}" text-anchor="middle">'
        "requests at once, in tasks of one event loop</text>"
    )
    for name, ys in reversed(places.items()):  # ours is on top
        title, kind = _LINES[name]
        points = [(_x(number), y) for number, y in enumerate(ys)]
        joined = " ".join(f"{x},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{kind}" points="{joined}"/>')
        parts += [f'<circle class="{kind}" cx="{x}" cy="{y:.1f}" r="3"/>' for x, y in points]
        parts.append(
            f'<text class="{kind}" x="{_RIGHT + 14}" y="{labels[name] + 5:.1f}">'
            f"{title}: {rates[name][-1]:,.0f}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _x(number: int) -> int:
    """Return where a number of tasks is: they are evenly apart, since each is eight times more."""
    return _LEFT + number * (_RIGHT - _LEFT) // (len(TASKS) - 1)


def _y(value: float, most: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * value / most


def _round_up(value: float) -> int:
    """Return the next number that the axis can end with: 4, 8, 12 or 20, with zeros."""
    zeros = 1
    while True:
        for digits in (4, 8, 12, 20):
            if value <= digits * zeros:
                return digits * zeros
        zeros *= 10


def _apart(places: dict[str, float]) -> dict[str, float]:
    """Move labels up so that none covers another, and return where they are."""
    moved = dict(sorted(places.items(), key=lambda item: -item[1]))  # the lowest first
    for below, above in pairwise(moved):
        moved[above] = min(moved[above], moved[below] - _LABEL_HEIGHT)
    return moved
