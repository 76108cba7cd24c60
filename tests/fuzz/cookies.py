"""Cookies, and session keys, of any bytes."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import CreateError, SessionBase

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.fuzz import model
from tests.fuzz.data import Data
from tests.fuzz.session import Session
from tests.fuzz.values import for_json
from tests.fuzz.world import KEY, SECRET, VICTIMS_ID, VICTIMS_KEY, world


def check(raw: bytes) -> None:
    """Look a session up by what the bytes say."""
    data = Data(raw)
    world.begin(data)
    kind = data.byte()
    if kind < 64:
        Session(data, None).request(data.rest())
    elif kind < 128:
        Session(data, None).request(b"a=b; sessionid=" + _text(data).encode("utf-8", "replace"))
    else:
        check_key(_text(data) if kind < 224 else _thing(data), data)


def check_key(key: Any, data: Data) -> None:
    """Look a session up by anything."""
    asked = world.collection.asked
    world.do(SessionStore(), "exists", key)
    document_id = model.id_of(key)
    assert asked == ([] if document_id is None else ["find"])
    if document_id == VICTIMS_ID:
        assert world.do(SessionStore(key), "load")["secret"] == SECRET
        return
    world.do(SessionStore(), "delete", key)
    world.check_victim()
    try:
        SessionBase(key)
    except TypeError:
        return  # nor does Django take it
    if document_id is None and key:
        asked.clear()
        store = SessionStore(key)
        assert world.do(store, "load") == {}
        assert store.session_key is None
        store = SessionStore(key)
        if store.session_key is not None:  # Django drops what is too short
            _check_refused(store)
        assert not asked
    Session(data, key).play()


def _check_refused(store: SessionStore) -> None:
    """Nothing is stored under something that is not a key."""
    try:
        world.do(store, "save", True)
    except CreateError:
        return
    raise AssertionError("stored under what is no key")


def _text(data: Data) -> str:
    """Return text, often one that is nearly a key."""
    kind = data.byte() % 8
    if kind == 0:
        return VICTIMS_KEY if data.flag() else KEY
    if kind == 1:
        return data.text()
    key, place = VICTIMS_KEY, data.byte() % 33
    if kind == 2:
        return key[:place] + data.text() + key[place:]
    if kind == 3:
        return key[:place] + data.text()
    if kind == 4:
        return key[:place] + data.text() + key[place + 1 :]
    if kind == 5:
        return data.choice([key.upper(), key.title(), key[::-1], f'"{key}"', f" {key}", key * 5])
    if kind == 6:
        return data.choice([VICTIMS_ID.hex(), repr(VICTIMS_ID), f"{{'$ne': '{key}'}}"])
    return key.translate({ord(key[place % 32]): chr(data.byte() * 256 + data.byte())})


def _thing(data: Data) -> Any:
    """Return something that is not text."""
    kind = data.byte() % 4
    if kind == 0:
        return data.choice([VICTIMS_KEY.encode(), VICTIMS_ID, list(VICTIMS_KEY), data.rest()])
    if kind == 1:
        return {data.choice(["$ne", "$gt", "$in", "$where"]): for_json(data)}
    return for_json(data)
