"""What projects' own tests call."""

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.testing import reset


def test_reset_lets_the_next_use_make_a_new_client(engine):
    SessionStore().save()
    first = clients.collection()

    reset()

    assert clients.collection().client is not first.client
