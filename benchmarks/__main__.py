"""`python -m benchmarks`: `run` measures all, `report` writes the pages, `quick` only counts."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import counts
from benchmarks.servers import Addresses, ServerError
from testproject import mongod

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
TRIAL = ROOT / ".cache" / "benchmarks.json"


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure all, in about half an hour")
    run.add_argument("--scale", type=float, default=1.0, help="of all counts; 0.02 for a trial")
    run.add_argument("--output", type=Path, help=f"the JSON; {RESULTS}, or {TRIAL} of a trial")
    run.set_defaults(do=_run)
    report = commands.add_parser("report", help="write the pages and the plots from the JSON")
    report.add_argument("--input", type=Path, default=RESULTS, help="the JSON; %(default)s")
    report.add_argument("--root", type=Path, default=ROOT, help="the clone that has the pages")
    report.set_defaults(do=_report)
    quick = commands.add_parser("quick", help="count commands and bytes; judges no times")
    quick.add_argument("--write", action="store_true", help="make them what is expected")
    quick.set_defaults(do=_quick)
    arguments = parser.parse_args()
    try:
        status: int = arguments.do(arguments)
        return status
    except (ServerError, mongod.MongodError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    # What these import is not there for a quick count.
    from benchmarks import report, suite

    results = suite.run(arguments.scale)
    output = arguments.output or (RESULTS if arguments.scale == 1 else TRIAL)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{report.targets(results)}\n\n{output} holds the rest.")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from benchmarks import plots, report

    results = json.loads(arguments.input.read_text())
    if results["scale"] != 1 and arguments.root == ROOT:
        print("These are a trial's results. Name another folder with --root.", file=sys.stderr)
        return 1
    images = plots.draw(results, arguments.root / "docs" / "_static")
    for path in [*images.values(), *report.write(results, images, arguments.root)]:
        print(path)
    return 0


def _quick(arguments: argparse.Namespace) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mongod.running(Path(folder) / "mongodb") as uri,
    ):
        rows = list(counts.measured(Addresses(uri, postgresql=0, redis="", folder=folder)))
    print(counts.as_markdown(rows))
    if arguments.write:
        counts.write(rows)
        return 0
    differences = counts.differences(rows, counts.expected())
    for difference in differences:
        print(difference, file=sys.stderr)
    if differences:
        print("If that is meant: python -m benchmarks quick --write", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
