"""What the engine has to hold, and whether it did. Pure.

All bounds are ratios of figures of one run, since machines differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.cases import OWN_CPU
from benchmarks.contenders import BACKEND, CACHE, OURS, POSTGRESQL, RAW

_SMALL = 400  # bytes of JSON
# Microseconds that a `find_one` took where the bound of the engine's own time was set.
_REFERENCE = 300
_FLAT = 1.05  # of the memory that a process has after a tenth of the sessions


class Target(NamedTuple):
    """A bound, and what was measured."""

    what: str
    bound: str
    measured: str
    met: bool


def judged(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the targets, as they came out in a run."""
    return [target._asdict() for target in _targets(results)]


def _targets(results: dict[str, Any]) -> Iterator[Target]:
    def figure(case: str, name: str, what: str = "median") -> float:
        [row] = [row for row in results["cases"] if (row["case"], row["bytes"]) == (case, _SMALL)]
        value: float = row["results"][name][what]
        return value

    def ratio(case: str, slower: str, faster: str) -> float:
        return figure(case, slower) / figure(case, faster)

    growth = results["growth"]
    both = "load-change-save"
    yield _at_most("`load` over PyMongo's own call", ratio("load", OURS, RAW), 1.15)
    yield _at_most("`save` over PyMongo's own call", ratio("save", OURS, RAW), 1.20)
    yield _own_time(figure(OWN_CPU, OURS), figure("load", RAW))
    yield _at_least(f"{both}: as fast as `db` on PostgreSQL", ratio(both, POSTGRESQL, OURS), 2)
    yield _at_least(f"{both}: as fast as django-mongodb-backend", ratio(both, BACKEND, OURS), 4)
    yield _at_most(f"{both} over Django `cache` on Redis", ratio(both, OURS, CACHE), 1.1)
    yield _at_most("login over Django `cache` on Redis", ratio("login", OURS, CACHE), 1)
    for case, summaries in growth["speed"].items():
        few, many = growth["stored"][0], growth["stored"][-1]
        measured = summaries[-1]["median"] / summaries[0]["median"]
        yield _at_most(f"`{case}` among {many:,} sessions over among {few:,}", measured, 1.2)
    throughput = [figure("64 tasks", name, "per_second") for name in (OURS, POSTGRESQL)]
    what = "64 tasks: the throughput of Django `db`'s async verbs, PostgreSQL"
    yield _at_least(what, throughput[0] / throughput[1], 4)
    yield _memory(growth["memory"])
    differences = results["counts"]["differences"]
    counted = f"{len(differences)} counts differ" if differences else "as committed"
    yield Target("commands and bytes sent", "as committed", counted, not differences)


def _at_most(what: str, measured: float, bound: float) -> Target:
    return Target(what, f"at most {bound:.2f} ×", f"{measured:.2f} ×", measured <= bound)


def _at_least(what: str, measured: float, bound: float) -> Target:
    return Target(what, f"at least {bound:.2f} ×", f"{measured:.2f} ×", measured >= bound)


def _own_time(measured: float, find_one: float) -> Target:
    """Judge microseconds by what a `find_one` takes here: a slower machine has more of them."""
    bound = 50 * find_one / _REFERENCE
    return Target(
        "the engine's own time in load-change-save",
        f"at most {bound:.0f} µs, where `find_one` takes {find_one:.0f} (50 where it takes 300)",
        f"{measured:.0f} µs",
        measured <= bound,
    )


def _memory(samples: list[tuple[int, int]]) -> Target:
    """Compare the last sample with the one at a tenth of the way, when all code has been used."""
    served, last = samples[-1]
    _, early = next(sample for sample in samples if sample[0] >= served / 10)
    return Target(
        f"memory of a process over {served:,} different sessions",
        f"flat: at most {_FLAT:.2f} × that after a tenth of them",
        f"{last / early:.3f} ×, {last / 2**20:.1f} MiB",
        last <= early * _FLAT,
    )
