"""`python -m tests.chaos [--quick] [scenario ...]`: break things, and print the results.

Exits with status 1 if a promise did not hold. With --quick, times are shown but not judged.
`--write` puts the table into the documentation.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos import cuts, failover, forks, histories, moving, outage, table

SCENARIOS = {
    "failover": failover.run,
    "outage": outage.run,
    "forks": forks.run,
    "cuts": cuts.run,
    "histories": histories.run,
    "moving": moving.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--quick", action="store_true", help="do less of each, and judge no times")
    parser.add_argument("--write", action="store_true", help="write the table to docs/outages.md")
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=", ".join(SCENARIOS))
    given = parser.parse_args()
    unknown = set(given.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(
            f"no scenario {', '.join(sorted(unknown))}; choose from {', '.join(SCENARIOS)}"
        )
    began, rows = time.monotonic(), []
    for name in given.scenarios or SCENARIOS:
        for row in SCENARIOS[name](given.quick):
            rows.append(row)
            result = "; ".join([*row.faults(), *row.late]) or "as promised"
            print(f"{time.monotonic() - began:4.0f} s  {row.fault}, {row.on}: {result}", flush=True)
    print(f"\n{table.markdown(rows)}\n")
    if given.write:
        table.write(rows, time.monotonic() - began)
    broken = [
        f"{row.fault}, {row.on}: {fault}"
        for row in rows
        for fault in [*row.faults(), *(() if given.quick else row.late)]
    ]
    print("\n".join(["Broken promises:", *broken]) if broken else "Every promise held.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
