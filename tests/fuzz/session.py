"""A session through some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from pymongo.errors import WriteError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.fuzz import model, web
from tests.fuzz.checks import Checks
from tests.fuzz.data import Data
from tests.fuzz.steps import STEPS, VIEWS
from tests.fuzz.world import ID, VICTIMS_ID, world

_RAISED = (WriteError, TypeError, ValueError, OverflowError, OSError)


class Session(Checks):
    """The session of a key. `replace` makes documents that others store in the place of its own."""

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
                self._store = SessionStore(self._key)
            elif kind < 32:
                self._others()
            elif kind < 64:
                self.request(b"sessionid=" + str(self._key).encode("utf-8", "replace"))
            else:
                if kind < 80:
                    world.collection.meanwhile += [_nothing] * (kind % 4) + [self._others]
                self.step(self._data.choice(list(STEPS)))
                world.collection.meanwhile.clear()

    def _others(self) -> None:
        """Let others store or delete a document, of which the step that runs is innocent."""
        self._is_raced = True
        self._know(world.held(ID))
        raw = self._replace(self._data)
        if raw is not None:
            held = world.judged(ID, raw)
            # By the revision alone a write knows what it may take the place of, and a store which
            # of two writes was the later one.
            self._is_fooled |= held.revision in [known.revision for known in self._known]
            known = self._store._known.snapshot
            self._is_fooled |= None not in (known, held.revision) and held.revision < known.revision
            self._know(held)
        for documents in (world.collection.stored, self._before):
            if raw is None:
                documents.pop(ID, None)
            else:
                documents[ID] = raw

    # Steps

    def step(self, name: str) -> None:
        """Do something with the store."""
        do, may = STEPS[name]
        store, key = self._store, self._store.session_key
        document_id = model.id_of(key)
        held = self._begin(document_id)
        was_read, was_refused = hasattr(store, "_session_cache"), store._rejection_logged
        try:
            answer = do(store, self._data)
        except (UpdateError, *_RAISED) as error:
            self._check_error(error, may, model.is_storable)
        else:
            if name == "load" or (name == "look" and not was_read):
                self._check_load(answer, held, key, was_read)
            elif name == "exists":
                self._check_exists(answer, held)
            elif name == "save":
                self._check_save(held)
        assert len(world.refusals) <= (not was_refused)  # once per store
        self._check_documents(may, document_id)
        world.check_victim(getattr(store, "_session_cache", None))

    def request(self, header: bytes) -> None:
        """Serve a request with this cookie."""
        view = self._data.choice(list(VIEWS))
        request = web.request(header)
        key = web.cookie(request)
        document_id = model.id_of(key)
        if document_id == VICTIMS_ID:
            return
        held = self._begin(document_id)
        cookie = None
        try:
            cookie = web.respond(request, view)
        except _RAISED as error:
            self._check_error(error, VIEWS[view], model.is_servable)
        else:
            self._check_cookie(cookie, held, key, view)
        self._check_documents(VIEWS[view], document_id)
        world.check_victim(cookie)


def _nothing() -> None:
    pass
