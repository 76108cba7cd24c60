"""`python -m tests.chaos [--quick] [scenario ...]`: break things, and print what became of it.

Ends with status 1 where a promise did not hold; with --quick, times are told and not judged.
`--write` puts the table into the documentation.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos import cuts, failover, forks, outage, table

SCENARIOS = {
    "failover": failover.run,
    "outage": outage.run,
    "forks": forks.run,
    "cuts": cuts.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--quick", action="store_true", help="less of each, in some two minutes")
    parser.add_argument("--write", action="store_true", help="put the table into docs/outages.md")
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=", ".join(SCENARIOS))
    given = parser.parse_args()
    unknown = set(given.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    began, rows = time.monotonic(), []
    for name in given.scenarios or SCENARIOS:
        for row in SCENARIOS[name](given.quick):
            rows.append(row)
            said = "; ".join([*row.faults(), *row.late]) or "as promised"
            print(f"{time.monotonic() - began:4.0f} s  {row.fault}, {row.on}: {said}", flush=True)
    print(f"\n{table.markdown(rows)}\n")
    if given.write:
        table.write(rows, time.monotonic() - began)
    broken = [
        f"{row.fault}, {row.on}: {said}"
        for row in rows
        for said in [*row.faults(), *(() if given.quick else row.late)]
    ]
    print("\n".join(["Broken promises:", *broken]) if broken else "Every promise held.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
