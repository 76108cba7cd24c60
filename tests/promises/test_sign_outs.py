"""After a flush nothing of the session is stored, whatever else was being done with it."""

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import count_sessions


@pytest.mark.parametrize("verb", ["save", "create", "cycle_key"])
def test_an_insert_that_begins_as_another_thread_flushes_the_session_leaves_nothing(do, verb):
    class Flushed(SessionStore):
        """A session that another thread flushes while this one makes its document."""

        def to_document(self, data):
            self.flush()
            return {}

    store = Flushed()
    store[SESSION_KEY] = "7"

    with pytest.raises(UpdateError):
        do(store, verb)

    assert count_sessions() == 0
