"""The page of a user's sessions, in Chromium. `--screenshots FOLDER` keeps pictures."""

from datetime import timedelta

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from django_mongo_sessions import users
from django_mongo_sessions.storage import dates
from tests.browser.chromium import DESKTOP, FIREFOX, IPHONE, PHONE
from tests.browser.conftest import PASSWORD
from tests.conftest import collection

PAGE = "/account/sessions/"
ANDROID = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36"
)
LANGUAGES = ["en", "de", "fr", "es", "ja", "ar"]


@pytest.fixture
def sign_in(open_browser, alice):
    """`sign_in(…)` opens a browser, and signs in as alice on the page."""

    def sign_in(**options):
        browser = open_browser(**options)
        browser.visit(PAGE)
        browser.sign_in(alice, PASSWORD)
        assert browser.path == PAGE
        return browser

    return sign_in


@pytest.fixture
def lived_in(monkeypatch, client, alice, settings):
    """Sessions of alice on other devices, some days old."""
    for agent, address, signed_in, seen in (
        (FIREFOX, "203.0.113.8", timedelta(days=12), timedelta(minutes=5)),
        (IPHONE, "198.51.100.77", timedelta(days=3), timedelta(hours=2)),
        (ANDROID, "2001:db8:7::1", timedelta(days=11), timedelta(days=9)),
    ):
        now = dates.utc_now()
        with monkeypatch.context() as clock:
            clock.setattr(dates, "utc_now", lambda at=now - signed_in: at)
            client.force_login(alice)
            clock.setattr(dates, "utc_now", lambda at=now - seen: at)
            client.get("/setsession/", HTTP_USER_AGENT=agent, REMOTE_ADDR=address)
        client.cookies.clear()


@pytest.fixture
def stale(settings):
    """Let every sign-in be too old to end sessions without the password."""

    def stale():
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "REAUTHENTICATE": 0.001}

    return stale


def test_one_browser_signs_the_other_out(sign_in):
    phone, desktop = sign_in(size=PHONE, user_agent=IPHONE), sign_in()

    desktop.visit(PAGE)
    desktop.click("Sign out Safari on iPhone")

    assert desktop.path == PAGE
    assert "Signed out: Safari on iPhone." in desktop.text
    assert desktop.violations() == []
    assert "You are signed in on no other device." in desktop.text
    phone.visit(PAGE)
    assert phone.path == f"/signin/?next={PAGE}"


def test_all_other_browsers_are_signed_out(sign_in):
    others, desktop = [sign_in(user_agent=FIREFOX), sign_in(user_agent=IPHONE)], sign_in()

    desktop.click("Sign out all other devices")

    assert "2 other devices were signed out." in desktop.text
    for browser in others:
        browser.visit(PAGE)
        assert browser.path.startswith("/signin/")


def test_signing_out_everywhere_leads_to_the_start(sign_in, alice):
    other, desktop = sign_in(user_agent=FIREFOX), sign_in()

    desktop.click("Sign out everywhere, here too")

    assert desktop.path == "/"
    assert "You are signed out on all devices." in desktop.text
    assert users.count_sessions(alice) == 0
    other.visit(PAGE)
    assert other.path.startswith("/signin/")


def test_a_wrong_password_ends_nothing_and_the_right_one_does(sign_in, stale, alice):
    sign_in(user_agent=FIREFOX)
    desktop = sign_in()
    stale()

    desktop.click("Sign out Firefox on Linux")
    assert "You are about to sign out this device: Firefox on Linux." in desktop.text
    desktop.shoot("confirm-light")
    desktop.fill("password", "wrong")
    desktop.click("Sign out")

    assert "This password is not correct." in desktop.text
    assert desktop.violations() == []
    desktop.shoot("wrong-light")
    desktop.prefer_dark()
    assert desktop.violations() == []
    desktop.resize(*PHONE)
    assert not desktop.scrolls_sideways()
    desktop.shoot("wrong-phone-dark")
    assert users.count_sessions(alice) == 2
    field = desktop.focused()  # which says what is wrong with it
    assert field.get_attribute("name") == "password"
    described = desktop.driver.find_element(By.ID, field.get_attribute("aria-describedby"))
    assert described.text == "This password is not correct."

    desktop.fill("password", PASSWORD)
    desktop.click("Sign out")

    assert "Signed out: Firefox on Linux." in desktop.text
    assert users.count_sessions(alice) == 1


def test_who_cancels_ends_nothing(sign_in, stale, alice):
    sign_in(user_agent=FIREFOX)
    desktop = sign_in()
    stale()

    desktop.click("Sign out all other devices")
    desktop.click("Cancel")

    assert desktop.path == PAGE
    assert users.count_sessions(alice) == 2


def test_who_has_no_password_signs_in_again(open_browser, stale, client, alice):
    alice.set_unusable_password()
    alice.save()
    client.force_login(alice)
    key = client.session.session_key
    client.cookies.clear()
    client.force_login(alice)
    desktop = open_browser()
    desktop.visit("/")
    desktop.driver.add_cookie({"name": "sessionid", "value": key})
    stale()

    desktop.visit(PAGE)
    desktop.click("Sign out all other devices")
    assert "Sign in again, and then come back here." in desktop.text
    assert desktop.violations() == []
    desktop.shoot("again-light")
    desktop.click("Sign in again")

    assert desktop.path == f"/signin/?next={PAGE}"
    assert users.count_sessions(alice) == 1


def test_the_keyboard_is_enough(sign_in, stale, alice):
    sign_in(user_agent=FIREFOX)
    desktop = sign_in()
    stale()

    desktop.tab_to("Sign out")  # of this device, which comes first
    desktop.tab_to("Sign out Firefox on Linux")
    desktop.shoot("focus-light")
    with desktop.next_page():
        desktop.press(Keys.ENTER)
    assert desktop.focused().get_attribute("name") == "password"
    with desktop.next_page():
        desktop.press(*PASSWORD, Keys.ENTER)

    assert "Signed out: Firefox on Linux." in desktop.text
    assert users.count_sessions(alice) == 1


def test_no_script_is_needed(sign_in):
    desktop = sign_in()

    desktop.visit(PAGE)

    assert desktop.driver.find_elements(By.CSS_SELECTOR, "script, [onclick], [style]") == []


@pytest.mark.usefixtures("lived_in")
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_accessible_in_each_language(sign_in, language):
    browser = sign_in(language=language)
    root = browser.driver.find_element(By.TAG_NAME, "html")

    assert root.get_attribute("lang") == language
    assert root.get_attribute("dir") == ("rtl" if language == "ar" else "ltr")
    assert ("Where you are" in browser.text) == (language == "en")
    for dark in (False, True):
        browser.prefer_dark(dark)
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            browser.resize(*size)
            assert browser.violations() == []
            assert not browser.scrolls_sideways()
            browser.shoot(f"{language}-{name}-{'dark' if dark else 'light'}")


@pytest.mark.usefixtures("lived_in")
def test_the_structure_is_read_aloud_sensibly(sign_in):
    browser = sign_in()

    headings = browser.driver.find_elements(By.CSS_SELECTOR, "h1, h2, h3")
    regions = browser.driver.find_elements(By.CSS_SELECTOR, "main, section")

    assert [(each.tag_name, each.text) for each in headings] == [
        ("h1", "Where you are signed in"),
        ("h2", "This device"),
        ("h3", "Chrome on Linux"),
        ("h2", "Other devices"),
        ("h3", "Safari on iPhone"),
        ("h3", "Samsung Internet on Android"),
        ("h3", "Firefox on Linux"),
    ]
    assert [(each.aria_role, each.accessible_name) for each in regions] == [
        ("main", ""),
        ("region", "This device"),
        ("region", "Other devices"),
    ]
    assert browser.names()[1:] == [
        "Sign out",
        "Sign out Safari on iPhone",
        "Sign out Samsung Internet on Android",
        "Sign out Firefox on Linux",
        "Sign out all other devices",
        "Sign out everywhere, here too",
    ]


def test_who_impersonates_sees_a_list_without_buttons(sign_in, alice):
    sign_in(user_agent=FIREFOX)
    desktop = sign_in()
    collection().update_many({"user_agent": {"$ne": FIREFOX}}, {"$set": {"impersonator_id": "1"}})

    desktop.visit(PAGE)

    assert "on behalf of its owner" in desktop.text
    assert "Firefox on Linux" in desktop.text
    assert desktop.names() == ["Back to the demo"]
    assert desktop.violations() == []
    desktop.shoot("impersonated-light")


def test_the_demo_leads_to_the_page(open_browser, admin):
    browser = open_browser()
    browser.visit("/")
    browser.click("see where they are signed in")
    browser.sign_in(admin, PASSWORD)
    assert browser.path == PAGE

    browser.click("Back to the demo")

    assert "You are signed in as admin" in browser.text
