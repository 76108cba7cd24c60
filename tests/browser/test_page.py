"""The page of a user's sessions, in Chromium."""

from tests.browser.chromium import FIREFOX, IPHONE, PHONE
from tests.browser.conftest import PASSWORD

PAGE = "/account/sessions/"


def signed_in(browser, user):
    browser.visit(PAGE)
    browser.sign_in(user, PASSWORD)
    return browser


def test_look(open_browser, alice):
    signed_in(open_browser(user_agent=IPHONE), alice)
    signed_in(open_browser(user_agent=FIREFOX), alice)
    one = signed_in(open_browser(), alice)
    one.shoot("light")
    print(one.violations())
    one.resize(*PHONE)
    one.shoot("phone")
    one.prefer_dark()
    print(one.violations())
    one.shoot("phone-dark")
    one.resize(1400, 900)
    one.shoot("dark")
