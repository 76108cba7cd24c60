"""A session that goes through some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.sessions.backends.base import UpdateError

from tests.fuzz import model, web
from tests.fuzz.checks import Checks
from tests.fuzz.data import Data
from tests.fuzz.steps import STEPS, VIEWS, May
from tests.fuzz.world import ID, VICTIMS_ID, world

_RAISED = (TypeError, ValueError, OverflowError, OSError)


class Session(Checks):
    """The session of a key. `replace` makes what other requests store in the place of its own."""

    def __init__(
        self, data: Data, key: Any, replace: Callable[[Data], bytes | None] = lambda data: None
    ) -> None:
        super().__init__(key)
        self._data, self._replace = data, replace

    def play(self) -> None:
        """Do some steps."""
        for _ in range(1 + self._data.byte() % 8):
            kind = self._data.byte()
            if kind < 16:
                self._use_another_store()
            elif kind < 32:
                self._another_request()
            elif kind < 64:
                self.request(b"sessionid=" + str(self._key).encode("utf-8", "replace"))
            else:
                if kind < 80:
                    interruptions = [_nothing] * (kind % 4) + [self._another_request]
                    world.collection.interruptions += interruptions
                self.step(self._data.choice(list(STEPS)))
                world.collection.interruptions.clear()

    def _another_request(self) -> None:
        """Store or delete a document, which is not the work of the step that runs."""
        self._know(world.held(ID))
        raw = self._replace(self._data)
        for documents in (world.collection.stored, self._before):
            if raw is None:
                documents.pop(ID, None)
            else:
                documents[ID] = raw
        self._replaced(raw)

    # Steps

    def step(self, name: str) -> None:
        """Do something with the store."""
        do, may = STEPS[name]
        store, key = self._store, self._store.session_key
        document_id = model.id_of(key)
        also = [*self._own, *self._left] if name == "flush" else []
        held = self._begin(document_id, *also)
        is_unchanged = self._unchanged() if name in ("save", "cycle_key") else None
        known = store._baseline
        was_read, was_refused = hasattr(store, "_session_cache"), store._rejection_logged
        try:
            answer = do(store, self._data)
        except (UpdateError, *_RAISED) as error:
            self._check_error(error, may, model.is_storable)
            if name == "cycle_key":
                self._orphans.update(world.collection.stored.keys() - self._before.keys())
        else:
            if name == "load" or (name == "look" and not was_read):
                self._check_load(answer, held, key, was_read)
            elif name == "exists":
                self._check_exists(answer, held)
            elif name == "save":
                self._check_save(held, is_unchanged)
            elif name == "cycle_key" and (known is None or known.readable):
                self._check_moved(held, document_id, is_unchanged)
            if may.delete:
                self._check_ended()
        assert len(world.refusals) <= (not was_refused)  # once per store
        self._left |= self._check_documents(may, document_id)
        self._own.update({document_id, model.id_of(store.session_key)} - {None})
        if name == "flush":
            self._check_flushed()
        self._check_victim(may, getattr(store, "_session_cache", None))

    def request(self, header: bytes) -> None:
        """Serve a request with this cookie."""
        view = self._data.choice(list(VIEWS))
        request = web.request(header)
        key = web.cookie(request)
        document_id = model.id_of(key)
        if document_id == VICTIMS_ID:
            return
        may = VIEWS[view]
        held = self._begin(document_id)
        cookie = None
        try:
            cookie = web.respond(request, view)
        except _RAISED as error:
            self._check_error(error, may, model.is_servable)
        else:
            self._check_cookie(cookie, held, key, view)
            if may.delete:
                self._check_ended()
        self._check_documents(may, document_id)
        self._check_victim(may, cookie)

    def _check_victim(self, may: May, *shown: object) -> None:
        world.check_victim(*shown, may_be_gone=may.delete and VICTIMS_ID in self._reached)


def _nothing() -> None:
    pass
