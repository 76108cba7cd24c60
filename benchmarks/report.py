"""The tables, as Markdown, from the results of a run. Pure.

A time is told in microseconds, as median / p99, and beside it what the contender promises of a
write when it has answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import counts, payloads
from benchmarks.cases import OWN_CPU, REQUESTS, TASKS, THREADS, VERBS
from benchmarks.contenders import BY_NAME, CONTENDERS, OURS, RAW

Results = dict[str, Any]
BEGIN = "<!-- benchmarks: what is below is made by `python -m benchmarks report` -->"
END = "<!-- benchmarks: end -->"
Cell = Callable[[dict[str, Any]], str]

_IN_THE_README = ["load", "load-change-save", "login", "WSGI request"]
_PEERS = [one.name for one in CONTENDERS if one.name not in ("ours-journal", "ours-w1")]


def write(results: Results, plots: dict[str, Path], root: Path) -> list[Path]:
    """Write the generated parts of two pages, in a clone that has the plots; return the files."""
    links = {name: f"_static/{path.name}" for name, path in plots.items()}
    parts = {
        root / "docs" / "benchmarks.md": page(results, links),
        root / "README.md": readme(results),
    }
    for path, part in parts.items():
        path.write_text(between_markers(path.read_text(), part))
    return [*parts]


def page(results: Results, plots: dict[str, str]) -> str:
    """Return the generated part of the documentation's page; `plots` are paths, by their names."""
    images = {name: f"![{name}]({path})" for name, path in plots.items()}
    small, *larger = payloads.SIZES
    parts = ["## The targets", targets(results), "## Where it was measured", machine(results)]
    parts += ["## The verbs", images["load-change-save"]]
    parts += [_section(results, VERBS, small, times)]
    for size in larger:
        parts += [_section(results, VERBS, size, times)]
    parts += [images["sizes"], "## Whole requests"]
    parts += [_section(results, REQUESTS, size, times) for size in payloads.SIZES]
    parts += ["## Several at once", images["tasks"], "Operations a second, load-change-save."]
    parts += [_section(results, [*TASKS, *THREADS], small, throughput)]
    parts += ["## Processor time", "Of the contender's own process, in microseconds an operation."]
    parts += [_section(results, ["load", "load-change-save", "WSGI request"], small, processor)]
    parts += [own_time(results), "## Growth", growth(results), images["growth"], images["memory"]]
    parts += ["## What is sent", counts.as_markdown(results["counts"]["rows"])]
    return "\n\n".join(parts)


def readme(results: Results) -> str:
    """Return the small table, of medians."""
    about, small = results["machine"], payloads.SIZES[0]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return "\n\n".join(
        [
            f"Medians in microseconds, of a session of {payloads.label(small)}, all in one run on "
            f"{about['cores']} cores of {about['processor']}.",
            side_by_side(
                results, _IN_THE_README, small, lambda one: f"{one['median']:.0f}", _PEERS
            ),
            f"{versions}.",
        ]
    )


def between_markers(page: str, part: str) -> str:
    """Return a page with that between its markers. Raises ValueError where it has none."""
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"The page lacks its markers: {BEGIN} and {END}")
    return marked.sub(lambda match: f"{BEGIN}\n\n{part}\n\n{END}", page, count=1)


def times(figures: dict[str, Any]) -> str:
    """Return the cell of a case that is told as a time."""
    return f"{figures['median']:.0f} / {figures['p99']:.0f}"


def _median(figures: dict[str, Any]) -> str:
    return f"{figures['median']:.0f}"


def throughput(figures: dict[str, Any]) -> str:
    """Return the cell of a case that is told as operations a second."""
    return f"{figures['per_second']:,.0f}"


def processor(figures: dict[str, Any]) -> str:
    """Return the cell of processor time."""
    return f"{figures['cpu']:.0f}"


def _section(results: Results, cases: list[str], size: int, cell: Cell) -> str:
    return f"A session of {payloads.label(size)}:\n\n{side_by_side(results, cases, size, cell)}"


def side_by_side(
    results: Results, cases: list[str], size: int, cell: Cell, names: Iterable[str] = BY_NAME
) -> str:
    """Return the cases side by side, a contender a line, without empty lines and columns."""
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
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def targets(results: Results) -> str:
    """Return the table of the targets."""
    return table(
        ["what", "bound", "measured", ""],
        (
            [one["what"], one["bound"], one["measured"], "met" if one["met"] else "**not met**"]
            for one in results["targets"]
        ),
    )


def machine(results: Results) -> str:
    """Return the table of the machine and of the versions."""
    about = results["machine"]
    described = {
        "date": about["date"],
        "machine": f"{about['cores']} cores of {about['processor']}, {about['memory_gb']} GB",
        "system": f"{about['system']}, data on {about['file_system']}",
        "took": f"{results['minutes']:.0f} minutes",
        **results["versions"],
    }
    return table(["", ""], described.items())


def own_time(results: Results) -> str:
    """Return what is said of the engine's own time."""
    cases = {
        row["case"]: row["results"] for row in results["cases"] if row["bytes"] == payloads.SIZES[0]
    }
    own, both = cases[OWN_CPU][OURS], cases["load-change-save"]
    return (
        "The engine's own share of load-change-save, with a collection that answers at once, is "
        f"{own['median']:.0f} µs (p99 {own['p99']:.0f}). Between waits for a server, with the "
        "processor's caches cold and a deadline set, its process takes "
        f"{both[OURS]['cpu'] - both[RAW]['cpu']:.0f} µs more than PyMongo alone."
    )


def growth(results: Results) -> str:
    """Return what becomes of the engine as sessions are stored and served."""
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
        f"{one['seconds'] * 100_000 / one['removed']:.1f} s among {one['living']:,} that live"
        for one in grown["clear_expired"]
    )
    served, memory = grown["memory"][-1]
    return "\n\n".join(
        [
            f"Times of a session among so many (MongoDB's cache has {grown['cache_gb']} GB), and "
            "bytes a session: of the document, of the collection on disk, and of each index there.",
            sizes,
            f"`clear_expired()` removes 100,000 sessions in: {cleared}.",
            f"A process that has served {served:,} different sessions has "
            f"{memory / 2**20:.1f} MiB.",
        ]
    )
