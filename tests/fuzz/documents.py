"""Documents of any kind in the place of a session's."""

from __future__ import annotations

from tests.fuzz.data import Data
from tests.fuzz.forging import any_document
from tests.fuzz.session import Session
from tests.fuzz.world import ID, KEY, world


def check(raw: bytes) -> None:
    """Use a session of which the server holds what the bytes say."""
    data = Data(raw)
    world.begin(data)
    check_document(any_document(data), data)


def check_document(document: bytes | None, data: Data) -> None:
    """Use a session of which the server holds this."""
    if document is not None:
        world.collection.stored[ID] = document
    session = Session(data, KEY, any_document)
    session.step("exists")
    session.step("load")
    session.play()
