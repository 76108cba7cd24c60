"""A view may bind a session of PyMongo's: Django's session has no part in it."""

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.client_session import ClientSession

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from tests.conftest import Commands, count_sessions

pytestmark = [
    pytest.mark.only("mongod"),
    pytest.mark.skipif(not hasattr(ClientSession, "bind"), reason="new in PyMongo 4.17"),
]


class Site:
    """Saves one of Django's sessions where it has bound one of PyMongo's."""

    def __init__(self, uri):
        self.uri, self.commands, self.made = uri, Commands(), {}

    def client(self, kind):
        self.made[kind] = kind(self.uri, event_listeners=[self.commands])
        return self.made[kind]

    def visit(self):
        with self.client(MongoClient) as client, client.start_session() as bound:
            with bound.bind(end_session=False):
                client.admin.command("ping")
                SessionStore().save()
                client.admin.command("ping")
            return bound.session_id

    async def avisit(self):
        # The thread that makes the calls, if there is one, gets a copy of the context.
        with self.client(MongoClient) as blocking, blocking.start_session() as other, other.bind():
            async with self.client(AsyncMongoClient) as client, client.start_session() as bound:
                async with bound.bind(end_session=False):
                    await client.admin.command("ping")
                    await SessionStore().asave()
                    await client.admin.command("ping")
                return bound.session_id


def sent_with(site, session_id):
    return [name for name, command in site.commands.sent if command.get("lsid") == session_id]


def test_a_session_of_another_client_has_no_part_in_it(do, mongod_uri):
    site = Site(mongod_uri)

    session_id = do(site, "visit")

    assert count_sessions() == 1
    assert sent_with(site, session_id) == ["ping", "ping"]  # it is bound again


def test_nor_has_one_of_a_shared_client(do, mongod_uri, settings):
    site = Site(mongod_uri)
    settings.MONGO_SESSIONS = {
        "CLIENT": lambda: site.made[MongoClient],
        "ASYNC_CLIENT": lambda: site.made[AsyncMongoClient],
        "DATABASE": settings.MONGO_SESSIONS["DATABASE"],
    }

    session_id = do(site, "visit")

    assert "insert" in [name for name, _ in site.commands.sent]
    assert sent_with(site, session_id) == ["ping", "ping"]
    clients.reset()
