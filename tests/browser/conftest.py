"""The demo in Chromium: a real server on a real mongod, and browsers with a profile each."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests.browser.chromium import Chromium

PASSWORD = "correct horse battery"


def pytest_addoption(parser):
    parser.addoption("--screenshots", type=Path, help="folder for the screenshots of the browsers")


@pytest.fixture
def site(mongod_engine, settings, transactional_db, live_server):
    """The address of the demo, without a slash at the end.

    It runs in this process, so a test may change settings, users and sessions.
    """
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "USER_AGENT": True,
        "ADDRESS": "prefix",
        "TOUCH_INTERVAL": 0.001,
    }
    return live_server.url


@pytest.fixture
def open_browser(site, tmp_path, request):
    """`open_browser(…)` starts a Chromium with a new profile; the options are Chromium's."""
    opened = []

    def open_browser(**options):
        folder = tmp_path / f"profile{len(opened)}"
        browser = Chromium(site, folder, request.config.getoption("screenshots"), **options)
        opened.append(browser)
        return browser

    yield open_browser
    for browser in opened:
        browser.driver.quit()


@pytest.fixture
def alice(site):
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)


@pytest.fixture
def admin(site):
    """A superuser."""
    return User.objects.create_superuser("admin", "admin@example.com", PASSWORD)
