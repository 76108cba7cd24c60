"""What the server held of a session, and what it is to hold. Values; no I/O happens here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class Snapshot(NamedTuple):
    """What the server held of a session when its store last read or wrote it.

    It belongs to the very dict that came with it, and to its key; it says nothing of any other.
    """

    key: str
    document_id: bytes
    data: dict[str, Any]
    created_at: datetime
    seen_at: datetime  # as it was read: our own writes do not count
    body: bytes
    user_id: str | None = None
    revision: int = 0
    fresh: bool = True  # False: only one of SECRET_KEY_FALLBACKS opened it
    opened: bool = True  # False: the document was refused, and nothing of it is known
    replaced: bool = False  # True: the session was cleared, and what others have stored goes

    def holds(self, content: Content) -> bool:
        """Return whether this very content was stored, and needs no other seal."""
        return self.body == content.body and self.fresh and not self.replaced


class Content(NamedTuple):
    """What is to be stored, in both its forms."""

    data: dict[str, Any]
    body: bytes


class Attempt(NamedTuple):
    """A write that was sent."""

    base: Snapshot  # what was known when it was sent
    newest: Snapshot  # what it takes the place of
    ours: Content  # what the session was then
    content: Content  # what is to be stored
    written: Snapshot  # what is known once it is
