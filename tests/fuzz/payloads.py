"""Payloads of any bytes, sealed by one of our keys and not, for this document and for others."""

from __future__ import annotations

from tests.fuzz.data import Data
from tests.fuzz.forging import sealed_document
from tests.fuzz.session import Session
from tests.fuzz.world import ID, KEY, world


def check(raw: bytes) -> None:
    """Use a session whose payload is what the bytes say."""
    data = Data(raw)
    world.begin(data)
    check_document(sealed_document(data), data)


def check_document(document: bytes | None, data: Data) -> None:
    """Use a session of which the server holds this."""
    if document is not None:
        world.collection.stored[ID] = document
    session = Session(data, KEY, sealed_document)
    session.step("load")
    session.play()
