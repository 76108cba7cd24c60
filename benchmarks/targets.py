"""The targets of the engine, and whether a run met them.

Since machines differ, each bound is a ratio of figures of the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks import network
from benchmarks.cases import OWN_CPU
from benchmarks.contenders import ALONE, BACKEND, CACHE, OURS, POOL, POSTGRESQL, RAW

_SMALL = 400  # bytes of JSON
# Microseconds of a `find_one` on the machine for which the bound of the engine's own time was set.
_REFERENCE = 300
_NETWORK = 0.5  # milliseconds of a round trip
_FLAT = 1.05  # times the memory that a process has after a tenth of the sessions


class Target(NamedTuple):
    """A target: its bound, and the measured figure."""

    what: str
    bound: str
    measured: str
    met: bool


def judge(results: dict[str, Any]) -> Iterator[Target]:
    """Yield all targets, as a run met or missed them."""

    cases = {row["case"]: row["results"] for row in results["cases"] if row["bytes"] == _SMALL}

    def figure(case: str, name: str, what: str = "median") -> float:
        value: float = cases[case][name][what]
        return value

    def ratio(case: str, slower: str, faster: str) -> float:
        return figure(case, slower) / figure(case, faster)

    def throughput(case: str, *others: str) -> float:
        """Return the engine's throughput relative to that of the fastest of the others."""
        rates = [figure(case, other, "per_second") for other in others if other in cases[case]]
        return figure(case, OURS, "per_second") / max(rates)

    growth = results["growth"]
    both = "load-change-save"
    yield _at_least("64 tasks: throughput relative to PyMongo", throughput("64 tasks", RAW), 3)
    yield _at_least(
        "64 tasks: throughput relative to `db` on PostgreSQL",
        throughput("64 tasks", POSTGRESQL, POOL),
        8,
    )
    yield _at_least(
        "64 tasks: throughput relative to `cache` on Redis", throughput("64 tasks", CACHE), 3
    )
    yield _at_least(
        "16 threads: throughput relative to PyMongo", throughput("16 threads", RAW), 1.8
    )
    yield _at_least(
        "uvicorn, a view that reads and writes: requests relative to `db` on PostgreSQL",
        throughput("view that reads and writes", POSTGRESQL, POOL),
        4,
    )
    for case in ("1 task", "1 thread"):
        if ALONE in cases[case]:  # the engine has the setting
            what = f"{case}: time relative to `COALESCE = False`"
            yield _at_most(what, ratio(case, OURS, ALONE), 1.02)
    for case in (both, "login"):
        times = [
            network.modelled(
                figure(case, name), results["network"]["turnarounds"][case][name], _NETWORK
            )
            for name in (OURS, POSTGRESQL)
        ]
        yield _at_least(
            f"{case} at {_NETWORK} ms a round trip: speed relative to `db` on PostgreSQL",
            times[1] / times[0],
            2,
        )
    yield _at_most("`load`: time relative to PyMongo's own call", ratio("load", OURS, RAW), 1.25)
    yield _at_most("`save`: time relative to PyMongo's own call", ratio("save", OURS, RAW), 1.20)
    yield _at_most(
        f"{both}: processor time relative to PyMongo",
        figure(both, OURS, "cpu") / figure(both, RAW, "cpu"),
        1.25,
    )
    yield _own_time(figure(OWN_CPU, OURS), figure("load", RAW))
    yield _at_least(
        f"{both}: speed relative to `db` on PostgreSQL", ratio(both, POSTGRESQL, OURS), 2
    )
    yield _at_least(
        f"{both}: speed relative to django-mongodb-backend", ratio(both, BACKEND, OURS), 4
    )
    yield _at_most(
        f"{both}: time relative to Django `cache` on Redis", ratio(both, OURS, CACHE), 1.1
    )
    yield _at_most(
        "login: time relative to Django `cache` on Redis", ratio("login", OURS, CACHE), 1
    )
    for case, summaries in growth["speed"].items():
        few, many = growth["stored"][0], growth["stored"][-1]
        measured = summaries[-1]["median"] / summaries[0]["median"]
        yield _at_most(
            f"`{case}` with {many:,} stored sessions: time relative to {few:,}", measured, 1.2
        )
    yield _memory(growth["memory"])
    differences = results["counts"]["differences"]
    counted = f"{len(differences)} differences" if differences else "as expected"
    yield Target("commands and bytes sent", "as expected", counted, not differences)


def _at_most(what: str, measured: float, bound: float) -> Target:
    return Target(what, f"at most {bound:.2f} ×", f"{measured:.2f} ×", measured <= bound)


def _at_least(what: str, measured: float, bound: float) -> Target:
    return Target(what, f"at least {bound:.2f} ×", f"{measured:.2f} ×", measured >= bound)


def _own_time(measured: float, find_one: float) -> Target:
    """Judge the microseconds in proportion to those of a `find_one` on the same machine."""
    bound = 50 * find_one / _REFERENCE
    return Target(
        "the engine's own time in load-change-save",
        f"at most {bound:.0f} µs if `find_one` takes {find_one:.0f} µs (50 if it takes 300)",
        f"{measured:.0f} µs",
        measured <= bound,
    )


def _memory(samples: list[tuple[int, int]]) -> Target:
    """Compare the last sample with the one after a tenth, by which time all code has run."""
    served, last = samples[-1]
    _, early = next(sample for sample in samples if sample[0] >= served / 10)
    return Target(
        f"memory of a process that has used {served:,} different sessions",
        f"at most {_FLAT:.2f} × the memory after a tenth of them",
        f"{last / early:.3f} ×, {last / 2**20:.1f} MiB",
        last <= early * _FLAT,
    )
