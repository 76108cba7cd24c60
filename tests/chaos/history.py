"""Check what random clients did to sessions, and which results they got.

Every write of a session carries a token of its own: mutate() appends it to a list, and save() adds
a key. So a session that is read shows which writes it contains, and the list shows their order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

OK, FAILED, DELETED, UNKNOWN = "ok", "failed", "deleted", "unknown"
START, SAVE, MUTATE, READ, MOVE, FLUSH = "start", "save", "mutate", "read", "move", "flush"


class Event(NamedTuple):
    """One operation of a client. Times are by time.monotonic(), and the same for all processes.

    A failed operation is known to have stored nothing. If the session was deleted, that may have
    been before the operation was applied, or after. If the outcome is unknown, the operation may
    have been applied, and may yet be.
    """

    session: str
    kind: str
    outcome: str
    began: float
    ended: float
    key: str | None = None  # the client's session key
    token: str | None = None
    # The tokens that were read, those of mutate() in order; None if there was no session.
    seen: tuple[str, ...] | None = None

    @property
    def is_absence(self) -> bool:
        """Whether no session was found."""
        return self.kind == READ and self.outcome == OK and self.seen is None

    @classmethod
    def parse(cls, fields: Sequence[Any]) -> Event:
        """Return the event whose fields are in a list, as JSON stores it."""
        event = cls(*fields)
        return event if event.seen is None else event._replace(seen=tuple(event.seen))


class Stored(NamedTuple):
    """A session that is in the database in the end."""

    session: str
    tokens: tuple[str, ...]


def violations(
    events: Iterable[Event], stored: Iterable[Stored], may_roll_back: bool = False
) -> list[str]:
    """Return a sentence for each fault of a history.

    With `may_roll_back`, a token that was read may be missing later if its write was not
    acknowledged, since a primary that fails may lose it.
    """
    by_session: dict[str, list[Event]] = defaultdict(list)
    documents: dict[str, list[Stored]] = defaultdict(list)
    for event in events:
        by_session[event.session].append(event)
    for document in stored:
        documents[document.session].append(document)
    found = [f"{name}: no client began it" for name in documents.keys() - by_session]
    for name, some in by_session.items():
        faults = _Session(some, may_roll_back).faults(documents[name])
        found += [f"{name}: {fault}" for fault in faults]
    return found


def is_unsettled(events: Iterable[Event]) -> bool:
    """Return whether a client gave up while moving a session, which may then have two documents."""
    return any(event.kind in (START, MOVE) and event.outcome == UNKNOWN for event in events)


class _Session:
    """The history of one session."""

    def __init__(self, events: list[Event], may_roll_back: bool) -> None:
        self.events = sorted(events, key=lambda event: event.ended)
        self.writes = {event.token: event for event in events if event.token is not None}
        self.is_settled = not is_unsettled(events)
        self.certain = self._certain(may_roll_back)
        self.gone = self._gone(may_roll_back)

    def _certain(self, may_roll_back: bool) -> list[tuple[float, str, str]]:
        """Return when each token became certain, the token, and why it is, in order of time."""
        certain: dict[str, tuple[float, str, str]] = {}
        for event in self.events:
            if event.token is not None and event.outcome == OK:
                certain.setdefault(event.token, (event.ended, event.token, "was acknowledged"))
            for token in () if may_roll_back else event.seen or ():
                certain.setdefault(token, (event.ended, token, "was read"))
        return sorted(certain.values())

    def _gone(self, may_roll_back: bool) -> float:
        """Return the time after which no client may find the session."""
        for event in self.events:
            if event.kind == FLUSH and event.outcome == OK:
                return event.ended
            if not may_roll_back and event.is_absence and not self._was_moved(event):
                return event.ended
        return float("inf")

    def _was_moved(self, by: Event) -> bool:
        """Return whether another event may have moved the session from the key of this one.

        A move that ends since the session was deleted may have left the key before.
        """
        return any(
            event.kind == MOVE
            and event is not by
            and event.outcome != FAILED
            and event.key == by.key
            and event.began < by.ended
            for event in self.events
        )

    def _was_signed_out(self, by: Event) -> bool:
        """Return whether the session may have been signed out by the end of this event."""
        return any(event.kind == FLUSH and event.began < by.ended for event in self.events)

    def faults(self, stored: list[Stored]) -> Iterator[str]:
        """Yield what is wrong with the history, given what is stored in the end."""
        for event in self.events:
            if event.is_absence or event.outcome == DELETED:
                if not self._was_moved(event) and not self._was_signed_out(event):
                    yield f"a {event.kind} found nothing, and no client had signed out"
                continue
            if event.kind != FLUSH and event.outcome == OK and event.began > self.gone:
                yield f"a {event.kind} found the session after its end"
            if event.seen is not None:
                yield from self._wrong(event.seen, f"a {event.kind}")
                if self.is_settled:
                    yield from self._missing(event.seen, f"a {event.kind}", event.began)
        for document in stored:
            yield from self._wrong(document.tokens, "the database")
        if self.is_settled:
            yield from self._wrong_in_the_end(stored)

    def _wrong(self, tokens: tuple[str, ...], where: str) -> Iterator[str]:
        """Yield what is wrong with these tokens, whenever they were seen."""
        latest: Event | None = None
        for token, count in Counter(tokens).items():
            if count > 1:
                yield f"{where} has {token} {count} times"
            write = self.writes.get(token)
            if write is None:
                yield f"{where} has {token}, which belongs to no write of it"
            elif write.outcome == FAILED or (
                write.outcome == DELETED and not self._was_signed_out(write)
            ):
                yield f"{where} has {token}, which failed"
            elif write.kind == MUTATE:
                if latest is not None and write.ended < latest.began:
                    yield f"{where} has {token} after {latest.token}, which began later"
                if latest is None or write.began > latest.began:
                    latest = write

    def _missing(self, tokens: tuple[str, ...], where: str, began: float) -> Iterator[str]:
        """Yield the tokens that are missing, and were certain when the operation began."""
        earlier = self.certain[: bisect_left(self.certain, (began, "", ""))]
        seen = set(tokens)
        for _, token, how in earlier:
            if token not in seen:
                yield f"{where} lacks {token}, which {how} before"

    def _wrong_in_the_end(self, stored: list[Stored]) -> Iterator[str]:
        """Yield what is wrong with the documents in the end."""
        if self.gone < float("inf"):
            if stored:
                yield "the database has it after its end"
            return
        may_be_gone = any(event.kind == FLUSH for event in self.events)
        if len(stored) > 1 or not (stored or may_be_gone):
            yield f"the database has {len(stored)} documents of it"
        for document in stored:
            yield from self._missing(document.tokens, "the database", float("inf"))
