"""Two requests of one browser, and what MongoDB holds in the end."""

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore


@pytest.fixture
def two(do, stored):
    """Make two stores that have both loaded one session with this data."""

    def two(**data):
        key = stored(**data).session_key
        stores = SessionStore(key), SessionStore(key)
        for store in stores:
            do(store, "_get_session")
        return stores

    return two


@pytest.fixture
def held(do):
    """Return what MongoDB holds of a session."""
    return lambda store: do(SessionStore(store.session_key), "load")


@pytest.fixture
def tracking(settings):
    """Turn TRACK_NESTED on, once an engine has been set up."""
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "TRACK_NESTED": True}
