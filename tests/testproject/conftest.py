"""The demo's settings, in a database of the tests."""

import pytest

from testproject.overriding import Overridable
from testproject.watching import Listener


@pytest.fixture
def demo_settings(settings):
    """What the page needs of the demo's settings. Ask for an engine first."""
    given = settings.MONGO_SESSIONS
    options = {**given["CLIENT_OPTIONS"], "event_listeners": [Listener()]}
    settings.MONGO_SESSIONS = Overridable({**given, "CLIENT_OPTIONS": options, "COALESCE": False})
