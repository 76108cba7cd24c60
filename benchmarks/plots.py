"""Draw the results of a run as SVG files. The same results make the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.patches import Patch
from matplotlib.ticker import ScalarFormatter

from benchmarks import payloads
from benchmarks.cases import TASKS
from benchmarks.contenders import BY_NAME, OURS

_OURS, _OTHERS = "#0c4b33", "#9fb3c8"
_BOTH = "load-change-save"

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",  # keeps text as text
        "svg.hashsalt": "benchmarks",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.figsize": (8, 4.2),
        "figure.constrained_layout.use": True,
    }
)


def draw(results: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Draw all plots into a folder, and return the paths, by plot."""
    plots = {_BOTH: _bars, "sizes": _sizes, "tasks": _tasks, "growth": _growth, "memory": _memory}
    paths = {}
    for name, plot in plots.items():
        figure, axes = pyplot.subplots()
        plot(axes, results)
        paths[name] = folder / f"benchmarks-{name}.svg"
        figure.savefig(paths[name], metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return paths


def _case(results: dict[str, Any], case: str, size: int = payloads.SIZES[0]) -> dict[str, Any]:
    [row] = [row for row in results["cases"] if (row["case"], row["bytes"]) == (case, size)]
    found: dict[str, Any] = row["results"]
    return found


def _style(name: str) -> dict[str, Any]:
    ours = name == OURS
    return {"linewidth": 2.5 if ours else 1.2, "marker": "o", "label": BY_NAME[name].title} | (
        {"color": _OURS, "zorder": 3} if ours else {}
    )


def _bars(axes: Any, results: dict[str, Any]) -> None:
    figures = sorted(_case(results, _BOTH).items(), key=lambda item: -item[1]["median"])
    titles = [BY_NAME[name].title for name, _ in figures]
    medians = [one["median"] / 1_000 for _, one in figures]
    colors = [_OURS if name == OURS else _OTHERS for name, _ in figures]
    bars = axes.barh(titles, medians, color=colors)
    for bar, (name, _) in zip(bars, figures, strict=True):
        if not BY_NAME[name].durable:
            bar.set(facecolor="white", edgecolor=_OTHERS, hatch="///")
    axes.bar_label(bars, [f"{median:.2f}" for median in medians], padding=3)
    axes.margins(x=0.12)
    meanings = [
        Patch(facecolor=_OTHERS, label="returns after it is on the disk"),
        Patch(facecolor="white", edgecolor=_OTHERS, hatch="///", label="returns before"),
    ]
    axes.legend(handles=meanings, loc="upper right", fontsize="small")
    axes.set_xlabel("median of load-change-save, 0.4 kB, in milliseconds")


def _sizes(axes: Any, results: dict[str, Any]) -> None:
    for name in _case(results, _BOTH):
        medians = [_case(results, _BOTH, size)[name]["median"] / 1_000 for size in payloads.SIZES]
        axes.plot([size / 1_000 for size in payloads.SIZES], medians, **_style(name))
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="size of a session in kB",
        ylabel="load-change-save in ms",
    )
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(ScalarFormatter())
    axes.set_xticks([size / 1_000 for size in payloads.SIZES], ["0.4", "4", "64"])
    axes.figure.legend(loc="outside right upper", fontsize="x-small")


def _tasks(axes: Any, results: dict[str, Any]) -> None:
    cases = [_case(results, case) for case in TASKS]
    for name in cases[0]:
        axes.plot(TASKS, [case[name]["per_second"] for case in cases], **_style(name))
    axes.set(ylabel="load-change-save per second, in one event loop", ylim=(0, None))
    axes.figure.legend(loc="outside right upper", fontsize="x-small")


def _growth(axes: Any, results: dict[str, Any]) -> None:
    growth = results["growth"]
    for case, summaries in growth["speed"].items():
        medians = [one["median"] / 1_000 for one in summaries]
        axes.plot(growth["stored"], medians, marker="o", label=case)
    axes.set(xscale="log", xlabel="sessions stored", ylabel="median in ms", ylim=(0, None))
    axes.legend()


def _memory(axes: Any, results: dict[str, Any]) -> None:
    served, memory = zip(*results["growth"]["memory"], strict=True)
    used = [number / 2**20 for number in memory]
    axes.plot(served, used, color=_OURS, marker=".")
    axes.set(xlabel="different sessions used", ylabel="memory of one process in MiB")
    axes.set_ylim(0, max(used) * 1.2)
