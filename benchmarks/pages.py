"""Writes what a run came to into the documentation and the README, between their markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import plots, report


def write(results: dict[str, Any], root: Path) -> list[Path]:
    """Write the plots, and the generated parts of two pages; return the files."""
    images = plots.draw(results, root / "docs" / "_static")
    links = {name: f"_static/{path.name}" for name, path in images.items()}
    parts = {
        root / "docs" / "benchmarks.md": report.page(results, links),
        root / "README.md": report.readme(results),
    }
    for path, part in parts.items():
        path.write_text(report.between_markers(path.read_text(), part))
    return [*images.values(), *parts]
