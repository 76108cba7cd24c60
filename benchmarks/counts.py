"""Count the commands and the bytes that the engine sends, and compare them with expected.json.

They depend only on the code of the engine, of Django and of PyMongo: not on the machine, on its
load, or on the server. Only operations that run at the same time may go out together, as it comes,
so they are not counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import payloads
from benchmarks.cases import MATRIX, OWN_CPU, concurrency
from benchmarks.cases.counted import Sent
from benchmarks.contenders import COUNTED
from benchmarks.servers import Addresses
from benchmarks.worker import running

EXPECTED = Path(__file__).with_name("expected.json")
# Those with one operation at a time: which of several go out together depends on the machine.
COUNTED_CASES = [
    (case, size) for case, size in MATRIX if case != OWN_CPU and concurrency(case) == 1
]
_OPERATIONS = 16
Row = dict[str, Any]


def measure(addresses: Addresses) -> Iterator[Row]:
    """Yield what one operation of each case sends. Only MongoDB must be running."""
    with running([COUNTED], addresses) as [worker]:
        for case, size in COUNTED_CASES:
            worker("prepare", case=case, size=size)
            worker("run", number=_OPERATIONS)
            sent = [Sent(*each) for each in worker("call", method="sent")]
            yield {"case": case, "bytes": size, **average(sent, _OPERATIONS)}


def average(sent: list[Sent], operations: int) -> Row:
    """Return what one operation sent on average: whole numbers, unless the operations differ.

    `commands` has the number of each command, by name. `payload` is the bytes of the payload, or
    None if a payload is compressed. `beside` is all other bytes.
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
    """Return the rows of expected.json."""
    rows: list[Row] = json.loads(EXPECTED.read_text())
    return rows


def write(rows: list[Row]) -> None:
    """Write these rows into expected.json."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    EXPECTED.write_text(f"[\n{lines}\n]\n")


def differences(rows: list[Row], wanted: list[Row]) -> list[str]:
    """Describe how the rows differ from the wanted ones."""
    unseen = {(row["case"], row["bytes"]): row for row in wanted}
    found = []
    for row in rows:
        name = f"{row['case']}, {payloads.label(row['bytes'])}"
        other = unseen.pop((row["case"], row["bytes"]), None)
        if other is None:
            found.append(f"{name}: not expected")
            continue
        for what in ("commands", "beside", "payload"):
            if row[what] != other[what]:
                found.append(f"{name}: {what} {row[what]}, expected {other[what]}")
    return found + [f"{case}, {payloads.label(size)}: not measured" for case, size in unseen]


def as_markdown(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
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
