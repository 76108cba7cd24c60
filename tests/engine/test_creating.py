"""A new session, and the key that it gets."""

import pytest
from django.contrib.sessions.backends.base import CreateError
from pymongo.errors import DuplicateKeyError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import collection
from tests.engine.helpers import UNKNOWN, loaded


def test_create_stores_the_session_under_a_new_key(do):
    store = SessionStore()

    do(store, "create")

    assert store.modified
    assert do(store, "exists", store.session_key)
    assert loaded(do, store) == {}


def test_must_create_stores_under_the_key_that_was_given(do):
    store = SessionStore(UNKNOWN)
    do(store, "save", must_create=True)

    assert store.session_key == UNKNOWN
    with pytest.raises(CreateError):
        do(SessionStore(UNKNOWN), "save", must_create=True)


def test_a_new_key_is_random_and_not_looked_up(do):
    assert len({do(SessionStore(), "_get_new_session_key") for _ in range(5)}) == 5


def test_a_key_that_is_taken_is_not_used_again(do, stored):
    taken = stored(a=1).session_key

    class Unlucky(SessionStore):
        keys = [taken, UNKNOWN]

        def _get_new_session_key(self):
            return self.keys.pop(0)

    store = Unlucky()
    do(store, "create")

    assert store.session_key == UNKNOWN
    assert do(SessionStore(taken), "_get_session") == {"a": 1}


def test_keys_that_are_always_taken_end_in_an_error(do, stored):
    taken = stored(a=1).session_key

    class Stuck(SessionStore):
        def _get_new_session_key(self):
            return taken

    with pytest.raises(CreateError, match="is taken"):
        do(Stuck(), "create")


@pytest.mark.only("mongod")
def test_a_unique_index_of_the_projects_is_named_and_not_tried_again(do, stored):
    collection().create_index([("sid", 1)], unique=True, name="sid_1")
    try:
        stored(a=1)

        with pytest.raises(DuplicateKeyError, match="sid_1"):
            stored(b=2)
    finally:
        collection().drop_index("sid_1")
