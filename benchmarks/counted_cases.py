"""The engine's cases, and what they send."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import django_cases
from benchmarks.listener import COMMANDS, Sent
from benchmarks.running import Operation


class Cases(django_cases.Cases):
    """Everybody's cases; what readies them is not counted."""

    def prepare(self, case: str, size: int) -> django_cases.Ready:
        """See django_cases."""
        ready = super().prepare(case, size)

        def counted(number: int) -> Sequence[Operation]:
            operations = ready(number)
            COMMANDS.sent.clear()
            return operations

        return counted

    def sent(self) -> list[Sent]:
        """Return what the last run has sent."""
        return COMMANDS.sent
