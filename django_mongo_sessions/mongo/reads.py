"""Read what is stored at an id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.errors import InvalidBSON

from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import Steps
from django_mongo_sessions.storage import dates


def find(document_id: bytes) -> Steps[Mapping[str, Any] | None]:
    """Read the document with an id, whatever it is; None if there is none.

    Raises InvalidBSON if the engine's own fields cannot be decoded.
    """
    try:
        document: Mapping[str, Any] | None = yield operations.find(document_id)
    except InvalidBSON:  # it may contain a UUID of too few bytes, in a field of the project's
        document = yield operations.find_own_fields(document_id)
    return document


def exists(document_id: bytes) -> Steps[bool | None]:
    """Return whether a live session exists; None if there is nothing at all with that id."""
    try:
        found: bool | None = yield operations.exists(document_id, dates.utc_now())
    except InvalidBSON:  # it exists, and its date cannot be decoded
        return True
    return found
