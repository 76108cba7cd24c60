"""What must hold after each step of a session."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

import bson
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.fuzz import model, values
from tests.fuzz.steps import May
from tests.fuzz.world import ID, world


class Checks:
    """What was there before a step, and what must hold after it."""

    def __init__(self, key: Any) -> None:
        self._key = key
        self._before: dict[bytes, bytes] = {}
        self._known: list[model.Held] = []  # what there was at any time
        self._is_raced = False  # in this step another request has stored something
        self._is_fooled = False  # a write cannot tell what another request has stored
        self._way: list[bytes] = []  # the ids that a sign-out comes by, if there is no race
        self._roots: set[bytes] = set()  # where a sign-out may begin in this step
        self._reached: set[bytes] = set()  # where it may arrive, at any time of this step
        self._use_another_store()

    def _use_another_store(self) -> None:
        self._store = SessionStore(self._key)
        self._own: set[bytes] = set()  # the ids that this store has used
        self._left: dict[bytes, bytes] = {}  # the pointers that it has stored
        self._orphans: set[bytes] = set()  # the ids of moves that it could not finish

    def _begin(self, document_id: bytes | None, *also: bytes) -> model.Held | None:
        """Record what is there. A sign-out may begin at this id, and at the store's other ids."""
        self._is_raced = False
        self._before = dict(world.collection.stored)
        self._way = world.way(document_id)
        self._roots, self._reached = {*self._way[:1], *also}, set()
        self._reach()
        world.refusals.clear()
        world.collection.asked.clear()
        held = world.held(document_id)
        self._know(held)
        return held

    def _reach(self) -> None:
        for root in self._roots:
            self._reached.update(world.way(root))

    def _know(self, held: model.Held | None) -> None:
        if held is not None:
            self._known.append(held)
            # What is saved next does not open.
            self._is_fooled |= held.revision == model.LAST_REVISION

    def _replaced(self, raw: bytes | None) -> None:
        """Record that another request has replaced the document of our key."""
        self._is_raced = True
        if raw is not None:
            held = world.judged(ID, raw)
            # A write knows what it may replace only by its `write_id`.
            self._is_fooled |= self._is_known(held.write_id)
            self._know(held)
            if ID in self._roots:
                self._reached.update([held.target] if held.target is not None else [])
                self._reach()

    def _is_known(self, write_id: Any) -> bool:
        known = [held.write_id for held in self._known if held.write_id is not None]
        return any(values.equals(write_id, one) for one in known)

    def _check_error(
        self, error: Exception, may: May, is_fine: Callable[[dict[str, Any]], bool]
    ) -> None:
        """Only documented errors are raised, and those of data that Django cannot handle."""
        if isinstance(error, UpdateError):
            assert may.insert
            return
        sessions = [held.data for held in self._known if held.data]
        if all(map(is_fine, [*sessions, *world.brought])):
            raise error

    def _check_load(
        self, answer: Any, held: model.Held | None, key: str | None, was_read: bool
    ) -> None:
        """A stored session is read. A refused one is logged, and keeps its key."""
        if self._is_raced or (held and held.is_deep):
            return
        is_there = held is not None and held.is_there
        data = held.data if held and is_there else {}
        assert model.alike(answer, data or {})
        assert self._store.session_key == (key if is_there or was_read else None)
        assert data is not None or self._store._rejection_logged

    def _check_exists(self, answer: bool, held: model.Held | None) -> None:
        """An expired session does not exist, and neither does a marker."""
        assert self._is_raced or answer == (held is not None and held.exists)

    def _unchanged(self) -> Callable[[str], bool] | None:
        """Return whether the session has left a key as it was loaded; None if that is unknown."""
        known = self._store._baseline
        if known is None or not known.readable or known.cleared:
            return None
        try:
            ours = json.loads(json.dumps(self._store._session_cache))
            loaded = json.loads(known.body.decode("latin-1"))
        except (TypeError, ValueError, RecursionError):
            return None
        return lambda name: _same(name, ours, loaded)

    def _check_save(
        self, held: model.Held | None, is_unchanged: Callable[[str], bool] | None
    ) -> None:
        """A save is stored, merged with what another request has stored before. If there was
        nothing to save, a refused document stays.
        """
        stored = world.held(model.id_of(self._store.session_key))
        if self._is_raced or self._is_fooled or (held and held.is_deep):
            return
        if not world.collection.asked:
            known = self._store._baseline
            assert known is not None
            assert self._store._wrote_recently() or not known.readable
            return
        assert stored is not None
        assert not stored.is_marker
        if stored.data is None:
            assert held is not None
            assert held.data is None
        elif not stored.is_deep:
            assert model.alike(stored.data, self._store._session_cache)
            if held and held.is_there and held.data and is_unchanged:
                _check_kept(held.data, stored.data, is_unchanged)

    def _check_moved(
        self,
        held: model.Held | None,
        document_id: bytes | None,
        is_unchanged: Callable[[str], bool] | None,
    ) -> None:
        """A pointer leads to a session that has moved, and everything that was stored has moved."""
        if self._is_raced or self._is_fooled or not held or held.is_deep or held.data is None:
            return
        if held.is_there:
            left = world.held(document_id)
            assert left is not None
            assert left.is_marker
            assert left.target == model.id_of(self._store.session_key)
            moved = world.held(left.target)
            assert moved is not None
            assert moved.may_open
            if moved.data is not None and is_unchanged:
                _check_kept(held.data, moved.data, is_unchanged)

    def _check_ended(self) -> None:
        """Nothing that a sign-out has visited is still a session."""
        if not self._is_raced and not self._is_fooled:
            assert all(held is None or held.is_spared for held in map(world.held, self._way))

    def _check_flushed(self) -> None:
        """A flush leaves no pointer of the store's own."""
        stored = world.collection.stored
        assert not any(stored.get(left) == raw for left, raw in self._left.items())
        self._own.clear()
        self._left.clear()

    def _check_cookie(
        self, cookie: Morsel[str] | None, held: model.Held | None, key: str | None, view: str
    ) -> None:
        """No key that a client made up is adopted, and no key that may be useful is dropped."""
        if cookie is None or (held and held.is_deep):
            return
        is_there = held is not None and held.is_there
        assert is_there or not cookie.value or cookie.value != key
        if held and is_there and view != "flush":
            assert cookie.value
            assert held.data is not None or (view in ("write", "cycle_key") and cookie.value != key)

    def _check_documents(self, may: May, document_id: bytes | None) -> dict[bytes, bytes]:
        """Only the session's document has changed, and a refused one was at most deleted.

        Returns the pointer that was left, by its id.
        """
        stored, left = world.collection.stored, {}
        for changed in self._before.keys() | stored.keys():
            before, after = self._before.get(changed), stored.get(changed)
            if before == after or (changed == ID and self._is_fooled):
                continue
            if after is None:
                assert before is not None
                self._check_deleted(changed, before, may)
                continue
            now = world.judged(changed, after)
            if before is None and now.is_marker:
                assert may.insert or may.delete
                assert changed in world.collection.unsent  # the engine cannot know that
                assert not bson.decode(after)["payload"]
                continue
            was = None if before is None else world.judged(changed, before)
            if was is None:
                assert may.insert
                assert changed != model.id_of(self._key)
            else:
                assert changed == document_id
                assert was.may_open
                assert may.point if now.is_marker else may.change
            if now.is_marker:
                assert now.target in stored.keys() - self._before.keys()  # there it is now
                left[changed] = after
            else:
                assert now.may_open
                assert was is None or now.sealed == was.sealed or now.revision > was.revision
            if was is None or now.sealed != was.sealed:
                assert not self._is_known(now.write_id)
                self._know(now)
        return left

    def _check_deleted(self, deleted: bytes, before: bytes, may: May) -> None:
        """A sign-out deletes the session, and of the markers only the pointers of the store.

        Whatever the store saves after a move that has failed deletes what that had stored.
        """
        if deleted in self._orphans:
            assert may.insert or may.delete
            self._orphans.discard(deleted)
            return
        assert may.delete
        if self._left.get(deleted) != before:
            assert deleted in self._reached
            assert not world.judged(deleted, before).is_spared


def _check_kept(
    theirs: dict[str, Any], stored: dict[str, Any], is_unchanged: Callable[[str], bool]
) -> None:
    """What another request has stored under a key is kept, unless the session has changed it."""
    assert all(_same(name, stored, theirs) for name in filter(is_unchanged, theirs))


def _same(name: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two sessions hold the same under a key, or both nothing."""
    return model.alike(*({name: data[name]} if name in data else {} for data in (one, other)))
