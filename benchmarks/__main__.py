"""`python -m benchmarks`: `run` measures, `report` writes the pages, `quick` only counts.

`compress` measures what compressing costs and saves, and `encrypt` what encryption costs. `memory`
watches the memory of one process. `import` imports sessions from other engines.
"""

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
    """Run the command that the command line names, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure everything, in about 45 minutes")
    run.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="factor for the numbers of operations and sessions; 0.02 for a trial",
    )
    run.add_argument(
        "--output", type=Path, help=f"file for the results; {RESULTS}, or {TRIAL} for a trial"
    )
    run.set_defaults(do=_run)
    report = commands.add_parser("report", help="write the pages and the plots from the results")
    report.add_argument(
        "--input", type=Path, default=RESULTS, help="file with the results; %(default)s"
    )
    report.add_argument("--root", type=Path, default=ROOT, help="clone that has the pages")
    report.set_defaults(do=_report)
    quick = commands.add_parser("quick", help="count commands and bytes, and judge no times")
    quick.add_argument("--write", action="store_true", help="expect these counts from now on")
    quick.set_defaults(do=_quick)
    compress = commands.add_parser("compress", help="measure compression at several levels")
    compress.set_defaults(do=_compress)
    encrypt = commands.add_parser("encrypt", help="measure encrypted sessions beside sealed ones")
    encrypt.set_defaults(do=_encrypt)
    flat = commands.add_parser("memory", help="use one process for long, and watch its memory")
    flat.add_argument(
        "--operations", type=int, default=1_000_000, help="loads and saves; %(default)s"
    )
    flat.set_defaults(do=_memory)
    brought = commands.add_parser("import", help="import from PostgreSQL and Redis")
    brought.add_argument("--rows", type=int, default=1_000_000, help="in PostgreSQL; %(default)s")
    brought.add_argument("--entries", type=int, default=100_000, help="in Redis; %(default)s")
    brought.set_defaults(do=_import)
    arguments = parser.parse_args()
    try:
        status: int = arguments.do(arguments)
        return status
    except (ServerError, mongod.MongodError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    # These import packages that a quick count does not need.
    from benchmarks import report, suite

    results = suite.run(arguments.scale)
    output = arguments.output or (RESULTS if arguments.scale == 1 else TRIAL)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{report.targets(results)}\n\nThe other results are in {output}.")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from benchmarks import importing

    is_good = True
    for result in importing.measure(arguments.rows, arguments.entries):
        print(result, flush=True)
        is_good = is_good and result.is_good
    return 0 if is_good else 1


def _report(arguments: argparse.Namespace) -> int:
    if not arguments.input.exists():
        print(f"{arguments.input} does not exist. `make bench` writes it.", file=sys.stderr)
        return 1
    from benchmarks import picture, plots, report

    results = json.loads(arguments.input.read_text())
    if results["scale"] != 1 and arguments.root == ROOT:
        print("These are the results of a trial. Name another clone with --root.", file=sys.stderr)
        return 1
    folder = arguments.root / "docs" / "_static"
    images = plots.draw(results, folder)
    drawn = [*images.values(), picture.draw(results, folder)]
    for path in [*drawn, *report.write(results, images, arguments.root)]:
        print(path)
    return 0


def _quick(arguments: argparse.Namespace) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mongod.running(Path(folder) / "mongodb") as uri,
    ):
        rows = list(counts.measure(Addresses(uri, postgresql=0, redis="", folder=folder)))
    print(counts.as_markdown(rows))
    if arguments.write:
        counts.write(rows)
        return 0
    differences = counts.differences(rows, counts.expected())
    for difference in differences:
        print(difference, file=sys.stderr)
    if differences:
        print("If the difference is intended: python -m benchmarks quick --write", file=sys.stderr)
    return 1 if differences else 0


def _compress(arguments: argparse.Namespace) -> int:
    from django.conf import settings

    from benchmarks import compression

    settings.configure()  # for Django's HMAC
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mongod.running(Path(folder) / "mongodb") as uri,
    ):
        print(compression.as_markdown(compression.measure(uri)))
    return 0


def _encrypt(arguments: argparse.Namespace) -> int:
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="not a secret: the benchmarks' key is public")
    django.setup()
    from benchmarks import encryption

    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mongod.running(Path(folder) / "mongodb") as uri,
    ):
        print(encryption.as_markdown(encryption.measure(uri)))
    return 0


def _memory(arguments: argparse.Namespace) -> int:
    from benchmarks import memory

    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mongod.running(Path(folder) / "mongodb") as uri,
    ):
        samples = []
        addresses = Addresses(uri, postgresql=0, redis="", folder=folder)
        for sample in memory.watch(addresses, arguments.operations):
            print(memory.describe(sample), flush=True)
            samples.append(sample)
    fault = memory.fault(samples)
    print(fault or "The memory stayed flat.")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
