"""Write the results of a run into the pages, as Markdown tables.

Times are in microseconds, as median / p99. Each table also has the durability of a contender's
writes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import counts, network, payloads, picture
from benchmarks.cases import OWN_CPU, REQUESTS, TASKS, THREADS, VERBS, VIEWS
from benchmarks.contenders import BY_NAME, CACHE, CONTENDERS, OURS, POSTGRESQL, RAW
from benchmarks.targets import judge

Results = dict[str, Any]
BEGIN = "<!-- benchmarks: what is below is made by `python -m benchmarks report` -->"
END = "<!-- benchmarks: end -->"
Cell = Callable[[dict[str, Any]], str]

_SUMMARY = ["load", "load-change-save", "login", "WSGI request"]
_PEERS = [
    one.name for one in CONTENDERS if one.name not in ("ours-journal", "ours-w1", "ours-alone")
]


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
    parts += ["## Side by side"]
    parts += [f"Medians in microseconds, for a session of {payloads.label(small)}:"]
    parts += [side_by_side(results, _SUMMARY, small, _median, _PEERS)]
    parts += ["## One session", images["load-change-save"]]
    parts += [_section(results, VERBS, small, times)]
    for size in larger:
        parts += [_section(results, VERBS, size, times)]
    parts += [images["sizes"], "## Whole requests"]
    parts += [_section(results, REQUESTS, size, times) for size in payloads.SIZES]
    parts += ["## Several sessions at once", images["tasks"]]
    parts += ["Load-change-save, in operations per second."]
    parts += [_section(results, [*TASKS, *THREADS], small, throughput)]
    parts += ["## A site under load"]
    parts += [
        "Requests per second to uvicorn from 64 connections, the median and the p99 of a request "
        "in milliseconds, and the processor time of the site's process for one request in "
        "microseconds."
    ]
    parts += [side_by_side(results, [*VIEWS], small, served)]
    parts += ["## On a network", on_a_network(results)]
    parts += ["## Processor time"]
    parts += ["Of the contender's own process, in microseconds per operation."]
    measured = ["load", "load-change-save", "WSGI request", *TASKS, *THREADS]
    parts += [_section(results, measured, small, processor)]
    parts += [own_time(results), "## Growth", growth(results), images["growth"], images["memory"]]
    # As committed: a run compares what it sends with that, and so does `make bench-quick`.
    parts += ["## What is sent", counts.as_markdown(counts.expected())]
    return "\n\n".join(parts)


def readme(results: Results) -> str:
    """Return the generated part of the README: three lines, and the picture."""
    about = results["machine"]
    cases = _cases(results)
    turnarounds = results["network"]["turnarounds"]["login"]
    login = {
        name: network.modelled(cases["login"][name]["median"], turnarounds[name], 0.5) / 1_000
        for name in (OURS, POSTGRESQL)
    }
    many = {name: throughput(cases["64 tasks"][name]) for name in (OURS, RAW, CACHE, POSTGRESQL)}
    load = {name: _median(cases["load"][name]) for name in (OURS, RAW, POSTGRESQL)}
    lines = [
        f"- **64 requests at once in one process:** {many[OURS]} sessions are loaded, changed and "
        f"saved per second. Django's `db` on PostgreSQL manages {many[POSTGRESQL]}, and `cache` on "
        f"Redis, which writes nothing to the disk, {many[CACHE]}. PyMongo alone, one by one, "
        f"manages {many[RAW]}.",
        f"- **One at a time:** a load takes {load[OURS]} µs. PyMongo's own call takes {load[RAW]}, "
        f"and `db` {load[POSTGRESQL]}.",
        f"- **With the database 0.5 ms away:** a login takes {login[OURS]:.1f} ms, in "
        f"{turnarounds[OURS]:g} round trips. With `db`, it takes {login[POSTGRESQL]:.1f} ms, in "
        f"{turnarounds[POSTGRESQL]:g}.",
    ]
    return "\n\n".join(
        [
            f"From one run on {about['cores']} cores of {about['processor']}, with all servers on "
            "the same machine:",
            "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines),
            f"![{picture.describe(picture.throughput(results))}](docs/_static/speed.svg)",
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


def served(figures: dict[str, Any]) -> str:
    """Format the requests per second, the median and the p99, and the processor time."""
    median, p99 = (figures[what] / 1_000 for what in ("median", "p99"))
    return f"{throughput(figures)}; {median:.0f} / {p99:.0f} ms; {processor(figures)} µs"


def _cases(results: Results) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the results for the smallest session, by case and contender."""
    size = payloads.SIZES[0]
    return {row["case"]: row["results"] for row in results["cases"] if row["bytes"] == size}


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
    cases = _cases(results)
    own, both = cases[OWN_CPU][OURS], cases["load-change-save"]
    return (
        "The engine's own share of load-change-save, measured with a collection that replies at "
        f"once, is {own['median']:.0f} µs (p99 {own['p99']:.0f}). With a real server, when the "
        "processor's caches are cold after each wait and PyMongo has a deadline to meet, the "
        f"engine's process uses {both[OURS]['cpu'] - both[RAW]['cpu']:.0f} µs more than PyMongo "
        "alone."
    )


def on_a_network(results: Results) -> str:
    """Return the tables of times on a network, and of how the model was checked."""
    cases, parts = _cases(results), []
    for case, turnarounds in results["network"]["turnarounds"].items():
        rows = []
        for name, number in turnarounds.items():
            if number:  # an engine without a server has no network
                median = cases[case][name]["median"]
                delays = (0, *network.ROUND_TRIPS)
                times = [network.modelled(median, number, delay) / 1_000 for delay in delays]
                rows.append([BY_NAME[name].title, f"{number:g}", *(f"{ms:.2f}" for ms in times)])
        head = ["", "round trips", "on loopback", *(f"{ms:g} ms" for ms in network.ROUND_TRIPS)]
        parts += [f"{case}, in milliseconds by the time of a round trip:", table(head, rows)]
    parts += [
        "The check: what a proxy that delays what it passes on has added to an operation, and, in "
        "parentheses, what it should have added, in milliseconds by the time of a round trip:"
    ]
    checks: dict[tuple[str, str], list[str]] = {}
    for check in results["network"]["checks"]:
        added = f"{check['measured']:.2f} ({check['expected']:.2f})"
        checks.setdefault((BY_NAME[check["contender"]].title, check["case"]), []).append(added)
    rows = [[*which, *added] for which, added in checks.items()]
    parts += [table(["", "case", *(f"{ms:g} ms" for ms in network.ROUND_TRIPS)], rows)]
    return "\n\n".join(parts)


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
