"""What must hold after each step of a session."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import WriteError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.fuzz import model
from tests.fuzz.steps import May
from tests.fuzz.world import world

_LAST_REVISION = 2**63 - 1


class Checks:
    """What was there before a step, and what must hold after it."""

    def __init__(self, key: Any) -> None:
        self._key, self._store = key, SessionStore(key)
        self._before: dict[bytes, bytes] = {}
        self._known: list[model.Held] = []  # what there was at any time
        self._is_raced = False  # in this step others have stored something
        self._is_fooled = False  # a write cannot tell what others have stored

    def _begin(self, document_id: bytes | None) -> model.Held | None:
        self._is_raced = False
        self._before = dict(world.collection.stored)
        world.refusals.clear()
        world.collection.asked.clear()
        held = world.held(document_id)
        self._know(held)
        return held

    def _know(self, held: model.Held | None) -> None:
        if held is not None:
            self._known.append(held)

    def _check_error(
        self, error: Exception, may: May, is_fine: Callable[[dict[str, Any]], bool]
    ) -> None:
        """No error but those that are documented, and of data that Django itself cannot take."""
        if isinstance(error, UpdateError):
            assert may.insert
            return
        if isinstance(error, WriteError):
            assert any(held.revision == _LAST_REVISION for held in self._known)
            return
        sessions = [held.data for held in self._known if held.data]
        if all(map(is_fine, [*sessions, *world.brought])):
            raise error

    def _check_load(
        self, answer: Any, held: model.Held | None, key: str | None, was_read: bool
    ) -> None:
        """What is held is read, and no more; what is refused is logged, and keeps its key."""
        if self._is_raced or (held and held.is_deep):
            return
        is_there = held is not None and not held.is_expired
        data = held.data if held and is_there else {}
        assert model.alike(answer, data or {})
        assert self._store.session_key == (key if is_there or was_read else None)
        assert data is not None or self._store._rejection_logged

    def _check_exists(self, answer: bool, held: model.Held | None) -> None:
        """What has expired is not there."""
        assert self._is_raced or answer == (held is not None and not held.is_expired)

    def _check_save(self, held: model.Held | None) -> None:
        """What was saved is stored; where there was nothing to save, what is refused stays."""
        stored = world.held(model.id_of(self._store.session_key))
        if self._is_raced or self._is_fooled or (held and held.is_deep):
            return
        if not world.collection.asked:
            known = self._store._baseline
            assert known is not None
            assert self._store._wrote_recently() or not known.readable
            return
        assert stored is not None
        if stored.data is None:
            assert held is not None
            assert held.data is None
        elif not stored.is_deep:
            assert model.alike(stored.data, self._store._session_cache)

    def _check_cookie(
        self, cookie: Morsel[str] | None, held: model.Held | None, key: str | None, view: str
    ) -> None:
        """No key that a client made up is taken up, and none goes that may be of use."""
        if cookie is None or (held and held.is_deep):
            return
        is_there = held is not None and not held.is_expired
        assert is_there or not cookie.value or cookie.value != key
        if held and is_there and view != "flush":
            assert cookie.value
            assert held.data is not None or (view in ("write", "cycle_key") and cookie.value != key)

    def _check_documents(self, may: May, document_id: bytes | None) -> None:
        """No document but the session's has changed, and one that is refused is deleted at most."""
        stored = world.collection.stored
        for changed in self._before.keys() | stored.keys():
            before, after = self._before.get(changed), stored.get(changed)
            if before == after or (changed == document_id and self._is_fooled):
                continue
            if before is None:
                assert may.insert
                assert changed != model.id_of(self._key)
            else:
                assert changed == document_id
                assert may.change if after else may.delete
                is_revoked = not after and not may.insert
                assert is_revoked or _may_open(changed, before)
            if after is not None:
                assert _may_open(changed, after)


def _may_open(document_id: bytes, raw: bytes) -> bool:
    held = world.judged(document_id, raw)
    return held.data is not None or held.is_deep
