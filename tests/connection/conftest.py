"""Settings of a connection, and no client left behind."""

import pytest

from django_mongo_sessions.connection import clients


@pytest.fixture
def use(settings):
    """Set MONGO_SESSIONS, and leave no client behind."""

    def use(**given):
        settings.MONGO_SESSIONS = given

    yield use
    clients.reset()
