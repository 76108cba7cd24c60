"""The demo's start page, which shows that the browsers work."""

from tests.browser.chromium import PHONE
from tests.browser.conftest import PASSWORD


def test_two_browsers_are_signed_in_on_their_own(open_browser, admin):
    one, two = open_browser(), open_browser(size=PHONE, dark=True)
    for browser in (one, two):
        browser.visit("/")
    one.click("Sign in")
    one.sign_in(admin, PASSWORD)
    two.click("Sign in")

    assert one.path == "/"
    assert "signed in as admin" in one.text
    assert "admin" not in two.path.partition("?")[2]
    assert not two.scrolls_sideways()
    one.shoot("start")


def test_axe_finds_nothing_on_the_start_page(open_browser):
    browser = open_browser()
    browser.visit("/")

    assert browser.violations() == []
