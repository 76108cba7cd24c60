"""Write the results of a run into the pages, as Markdown tables.

Times are in microseconds, as median / p99. Each table also has the durability of a contender's
writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import counts, payloads
from benchmarks.cases import OWN_CPU, REQUESTS, TASKS, THREADS, VERBS
from benchmarks.contenders import BY_NAME, CONTENDERS, OURS, RAW
from benchmarks.targets import judge

Results = dict[str, Any]
BEGIN = "<!-- benchmarks: what is below is made by `python -m benchmarks report` -->"
END = "<!-- benchmarks: end -->"
Cell = Callable[[dict[str, Any]], str]

_IN_THE_README = ["load", "load-change-save", "login", "WSGI request"]
_PEERS = [one.name for one in CONTENDERS if one.name not in ("ours-journal", "ours-w1")]


def write(results: Results, plots: dict[str, Path], root: Path) -> list[Path]:
    """Write the generated parts of the pages of a clone, and return the paths of the pages."""
    links = {name: f"_static/{path.name}" for name, path in plots.items()}
    parts = {
        root / "docs" / "benchmarks.md": page(results, links),
        root / "README.md": readme(results),
    }
    for path, part in parts.items():
        path.write_text(between_markers(path.read_text(), part))
    return [*parts]


def page(results: Results, plots: dict[str, str]) -> str:
    """Return the generated part of docs/benchmarks.md. `plots` has the paths, by plot."""
    images = {name: f"![{name}]({path})" for name, path in plots.items()}
    small, *larger = payloads.SIZES
    parts = ["## The targets", targets(results), "## Where it was measured", machine(results)]
    parts += ["## One session", images["load-change-save"]]
    parts += [_section(results, VERBS, small, times)]
    for size in larger:
        parts += [_section(results, VERBS, size, times)]
    parts += [images["sizes"], "## Whole requests"]
    parts += [_section(results, REQUESTS, size, times) for size in payloads.SIZES]
    parts += ["## Several sessions at once", images["tasks"]]
    parts += ["Load-change-save, in operations per second."]
    parts += [_section(results, [*TASKS, *THREADS], small, throughput)]
    parts += ["## Processor time"]
    parts += ["Of the contender's own process, in microseconds per operation."]
    parts += [_section(results, ["load", "load-change-save", "WSGI request"], small, processor)]
    parts += [own_time(results), "## Growth", growth(results), images["growth"], images["memory"]]
    # As committed: a run compares what it sends with that, and so does `make bench-quick`.
    parts += ["## What is sent", counts.as_markdown(counts.expected())]
    return "\n\n".join(parts)


def readme(results: Results) -> str:
    """Return the generated part of the README: a small table of medians."""
    about, small = results["machine"], payloads.SIZES[0]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return "\n\n".join(
        [
            f"Medians in microseconds for a session of {payloads.label(small)}, all from one run "
            f"on {about['cores']} cores of {about['processor']}:",
            side_by_side(results, _IN_THE_README, small, _median, _PEERS),
            f"Versions: {versions}.",
        ]
    )


def between_markers(page: str, part: str) -> str:
    """Return a page with the part between its markers. Raise ValueError if it has none."""
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"The page does not have the markers {BEGIN} and {END}")
    return marked.sub(lambda match: f"{BEGIN}\n\n{part}\n\n{END}", page, count=1)


def times(figures: dict[str, Any]) -> str:
    """Format the median and the p99."""
    return f"{figures['median']:.0f} / {figures['p99']:.0f}"


def _median(figures: dict[str, Any]) -> str:
    """Format the median."""
    return f"{figures['median']:.0f}"


def throughput(figures: dict[str, Any]) -> str:
    """Format the operations per second."""
    return f"{figures['per_second']:,.0f}"


def processor(figures: dict[str, Any]) -> str:
    """Format the processor time per operation."""
    return f"{figures['cpu']:.0f}"


def _section(results: Results, cases: list[str], size: int, cell: Cell) -> str:
    return f"A session of {payloads.label(size)}:\n\n{side_by_side(results, cases, size, cell)}"


def side_by_side(
    results: Results, cases: list[str], size: int, cell: Cell, names: Iterable[str] = BY_NAME
) -> str:
    """Return a table of cases, with a row for each contender that takes part in one."""
    columns = {
        row["case"]: row["results"]
        for row in results["cases"]
        if row["bytes"] == size and row["case"] in cases
    }
    rows = []
    for name in names:
        cells = [cell(column[name]) if name in column else "" for column in columns.values()]
        if any(cells):
            rows.append([BY_NAME[name].title, *cells, BY_NAME[name].durability])
    return table(["", *columns, "durability"], rows)


def table(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def targets(results: Results) -> str:
    """Return the table of all targets, met or missed."""
    return table(
        ["target", "bound", "measured", ""],
        (
            [one.what, one.bound, one.measured, "met" if one.met else "**not met**"]
            for one in judge(results)
        ),
    )


def machine(results: Results) -> str:
    """Return the table of the machine and the versions."""
    about = results["machine"]
    described = {
        "date": about["date"],
        "machine": f"{about['cores']} cores of {about['processor']}, {about['memory_gb']} GB",
        "system": f"{about['system']}, data on {about['file_system']}",
        "duration": f"{results['minutes']:.0f} minutes",
        **results["versions"],
    }
    return table(["", ""], described.items())


def own_time(results: Results) -> str:
    """Return the paragraph about the engine's own time."""
    cases = {
        row["case"]: row["results"] for row in results["cases"] if row["bytes"] == payloads.SIZES[0]
    }
    own, both = cases[OWN_CPU][OURS], cases["load-change-save"]
    return (
        "The engine's own share of load-change-save, measured with a collection that replies at "
        f"once, is {own['median']:.0f} µs (p99 {own['p99']:.0f}). With a real server, when the "
        "processor's caches are cold after each wait and PyMongo has a deadline to meet, the "
        f"engine's process uses {both[OURS]['cpu'] - both[RAW]['cpu']:.0f} µs more than PyMongo "
        "alone."
    )


def growth(results: Results) -> str:
    """Return the tables and paragraphs about growth."""
    grown = results["growth"]
    rows = []
    for number, stored in enumerate(grown["stored"]):
        space = grown["space"][number]
        rows.append(
            [
                f"{stored:,}",
                *(times(summaries[number]) for summaries in grown["speed"].values()),
                f"{space['document']:.0f}",
                f"{space['collection']:.0f}",
                *(f"{size:.0f}" for _, size in sorted(space["indexes"].items())),
            ]
        )
    names = [f"index `{name}`" for name in sorted(grown["space"][0]["indexes"])]
    sizes = table(["sessions", *grown["speed"], "document", "on disk", *names], rows)
    cleared = "; ".join(
        f"{one['seconds'] * 100_000 / one['removed']:.1f} s with {one['living']:,} others stored"
        for one in grown["clear_expired"]
    )
    served, memory = grown["memory"][-1]
    return "\n\n".join(
        [
            "Times for one session by the number of sessions stored (MongoDB's cache is "
            f"{grown['cache_gb']} GB), and bytes per session: of the document, of the collection "
            "on disk, and of each index on disk.",
            sizes,
            f"`clear_expired()` removes 100,000 expired sessions in {cleared}.",
            f"A process that has used {served:,} different sessions has {memory / 2**20:.1f} MiB "
            "of memory.",
        ]
    )
