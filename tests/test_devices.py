"""What a device is called."""

from pathlib import Path

import pytest
from django.utils import translation

from django_mongo_sessions.devices import Device, device

_LINES = (Path(__file__).parent / "user_agents.txt").read_text().splitlines()[1:]
USER_AGENTS = [line.split("\t") for line in _LINES]


@pytest.mark.parametrize(("browser", "platform", "user_agent"), USER_AGENTS)
def test_a_device_is_named_after_its_header(browser, platform, user_agent):
    assert device(user_agent) == Device(browser or None, platform or None)


def test_without_a_header_nothing_is_known():
    assert device(None) == Device()


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (Device("Firefox", "Linux"), "Firefox on Linux"),
        (Device("curl"), "curl"),
        (Device(None, "iPad"), "iPad"),
        (Device(), "Unknown device"),
    ],
)
def test_a_name_holds_what_is_known(found, name):
    with translation.override("en"):
        assert str(found) == name
