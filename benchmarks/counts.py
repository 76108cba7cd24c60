"""Counts the engine's commands and bytes, and compares them with what is committed.

They depend on the code of the engine, of Django and of PyMongo alone: not on the machine, its
load, or the server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import payloads
from benchmarks.cases import MATRIX, OWN_CPU
from benchmarks.cases.counted import Sent
from benchmarks.contenders import COUNTED
from benchmarks.servers import Addresses
from benchmarks.worker import running

EXPECTED = Path(__file__).with_name("expected.json")
_OPERATIONS = 16
Row = dict[str, Any]


def measured(addresses: Addresses) -> Iterator[Row]:
    """Yield what one operation of each case sends. Only a MongoDB is needed."""
    with running([COUNTED], addresses) as [worker]:
        for case, size in MATRIX:
            if case != OWN_CPU:
                worker("prepare", case=case, size=size)
                worker("run", number=_OPERATIONS)
                sent = [Sent(*each) for each in worker("ask", method="sent")]
                yield {"case": case, "bytes": size, **averaged(sent, _OPERATIONS)}


def averaged(sent: list[Sent], operations: int) -> Row:
    """Return what one of so many operations has sent: whole numbers, unless they differ.

    `commands` by their names; `beside` the bytes that are not payload; `payload` those that are,
    None where a payload is compressed.
    """
    commands = Counter(each.name for each in sent)
    sizes = [each.payload for each in sent]
    return {
        "commands": {name: _share(count, operations) for name, count in commands.items()},
        "beside": _share(sum(each.beside for each in sent), operations),
        "payload": None if None in sizes else _share(sum(filter(None, sizes)), operations),
    }


def _share(count: int, operations: int) -> float:
    return count / operations if count % operations else count // operations


def expected() -> list[Row]:
    """Return the rows that are committed."""
    rows: list[Row] = json.loads(EXPECTED.read_text())
    return rows


def write(rows: list[Row]) -> None:
    """Make these rows what is expected."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    EXPECTED.write_text(f"[\n{lines}\n]\n")


def differences(rows: list[Row], wanted: list[Row]) -> list[str]:
    """Return what differs, in words."""
    unseen = {(row["case"], row["bytes"]): row for row in wanted}
    found = []
    for row in rows:
        name = f"{row['case']}, {payloads.label(row['bytes'])}"
        other = unseen.pop((row["case"], row["bytes"]), None)
        if other is None:
            found.append(f"{name}: nothing is expected")
            continue
        for what in ("commands", "beside", "payload"):
            if row[what] != other[what]:
                found.append(f"{name}: {what} {row[what]}, expected {other[what]}")
    return found + [f"{case}, {payloads.label(size)}: not measured" for case, size in unseen]


def as_markdown(rows: list[Row]) -> str:
    """Return the rows as a table."""
    lines = [
        "| case | session | commands | bytes beside the payload | bytes of the payload |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        commands = ", ".join(
            name if count == 1 else f"{count} × {name}" for name, count in row["commands"].items()
        )
        payload = "compressed" if row["payload"] is None else row["payload"]
        cells = [row["case"], payloads.label(row["bytes"]), commands, row["beside"], payload]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
