"""The demo in Chromium: each of its pages, by the keyboard and without a script."""

import pytest
from django.contrib.auth.models import User
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from testproject import server
from testproject.overriding import Overridable
from testproject.watching import Listener
from tests.browser.chromium import DESKTOP, FIREFOX, PHONE

# How far the button of a form may have moved on the screen when the next page is there, in pixels.
UNNOTICED = 2


@pytest.fixture
def demo_users(site):
    for name in ("demo", "alice"):
        User.objects.create_user(name, password=name)


@pytest.fixture
def demo(open_browser, demo_users, settings):
    """`demo(…)` opens a browser on the page, with the settings of the demo."""
    given = settings.MONGO_SESSIONS
    options = {**given["CLIENT_OPTIONS"], "event_listeners": [Listener()]}
    settings.MONGO_SESSIONS = Overridable(
        {**given, "CLIENT_OPTIONS": options, "COALESCE": False, "TIMEOUT": 1}
    )

    def demo(**options):
        browser = open_browser(**options)
        browser.visit("/")
        return browser

    return demo


@pytest.fixture
def own_server(site, settings, tmp_path, monkeypatch):
    """A MongoDB of the demo's own, which its page can stop."""
    own = server.Server(tmp_path / "mongod")
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "URI": own.start()}
    monkeypatch.setattr(server, "own", own)
    yield own
    own.stop()


def check(browser, name):
    """Let axe look at the page, light and dark, wide and narrow, and keep pictures."""
    for size, (width, height) in (("desktop", DESKTOP), ("phone", PHONE)):
        browser.resize(width, height)
        for dark in (False, True):
            browser.prefer_dark(dark)
            assert browser.violations() == []
            assert not browser.scrolls_sideways()
            browser.shoot(f"demo-{name}-{size}-{'dark' if dark else 'light'}")
    browser.prefer_dark(False)
    browser.resize(*DESKTOP)


def unfold(browser):
    browser.driver.execute_script(
        "for (const each of document.querySelectorAll('details')) each.open = true"
    )


def height(browser, name):
    """Return how far below the top of the screen a button is."""
    return browser.driver.execute_script(
        "return arguments[0].getBoundingClientRect().top", browser.named(name)
    )


def test_each_page_is_accessible(demo):
    browser = demo()
    check(browser, "empty")
    browser.click("Store")
    check(browser, "stored")
    unfold(browser)
    check(browser, "unfolded")
    browser.fill("key", "_mine")
    browser.click("Store")
    check(browser, "refused")
    browser.visit("/")
    browser.click("Sign in as demo")
    check(browser, "signed-in")
    browser.click("Change a byte")
    check(browser, "tampered")
    for path in ("/signin/", "/mongodb/", "/account/sessions/"):
        browser.visit(path)
        check(browser, path.strip("/").replace("/", "-"))


@pytest.mark.parametrize("name", ["two-tabs", "same-key", "nested"])
def test_each_experiment_is_accessible_and_leads_to_its_outcome(demo, name):
    browser = demo()
    browser.visit(f"/try/{name}/")
    check(browser, name)

    browser.tab_to("Run it")
    with browser.next_page():
        browser.press(Keys.ENTER)

    assert browser.focused().get_attribute("id") == "outcome"
    assert "Lost:" in browser.text
    check(browser, f"{name}-outcome")


def test_a_refused_sign_in_is_accessible(demo):
    browser = demo()
    browser.visit("/signin/")
    browser.fill("username", "demo")
    browser.fill("password", "alice")

    browser.click("Sign in")

    assert browser.driver.find_element(By.CSS_SELECTOR, "[role=alert]").is_displayed()
    check(browser, "signin-refused")


def test_two_users_are_signed_in_with_two_browsers(demo):
    first, second = demo(), demo(user_agent=FIREFOX)

    first.click("Sign in as alice")
    second.click("Sign in as alice")

    assert "You are signed in as alice" in second.text
    assert "Firefox on Linux, this browser" in second.text
    second.click("the sessions of alice")
    second.click("Sign out Chrome on Linux")
    check(second, "sessions-signed-out")
    first.visit("/")
    assert "Nobody is signed in" in first.text
    first.click("Sign in as demo")
    assert "You are signed in as demo" in first.text
    first.click("Sign out")
    assert "Nobody is signed in" in first.text


def test_the_skip_link_comes_first_and_leads_to_the_content(demo):
    browser = demo()

    browser.press(Keys.TAB)
    assert browser.focused().accessible_name == "Skip to the content"
    assert browser.focused().rect["y"] >= 0
    browser.press(Keys.ENTER, Keys.TAB)

    assert browser.focused().accessible_name == "see where they are signed in"


@pytest.mark.parametrize("has_script", [True, False])
def test_the_focus_stays_at_the_form(demo, has_script):
    browser = demo()
    if not has_script:
        setting = {"urls": ["*/site.js"]}
        browser.driver.execute_cdp_cmd("Network.enable", {})
        browser.driver.execute_cdp_cmd("Network.setBlockedURLs", setting)
        browser.visit("/")
    browser.tab_to("Change the key")

    with browser.next_page():
        browser.press(Keys.ENTER)

    assert browser.focused().accessible_name == "Change the key"
    assert 0 < height(browser, "Change the key") < DESKTOP[1]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_seems_to_move_when_a_form_is_sent(demo, size):
    browser = demo(size=size)
    browser.click("Store")
    browser.tab_to("Change the key")
    before = height(browser, "Change the key")
    with browser.next_page():
        browser.press(Keys.ENTER)

    assert "The key was" in browser.text
    assert abs(height(browser, "Change the key") - before) <= UNNOTICED


def test_a_refused_form_keeps_what_was_typed_and_has_the_focus(demo):
    browser = demo()
    browser.fill("key", "_mine")

    browser.click("Store")

    field = browser.focused()
    assert (field.accessible_name, field.get_attribute("value")) == ("Key", "_mine")
    assert "Keys that begin with _ belong to Django." in browser.text


def test_tampering_empties_the_session_until_the_byte_is_changed_back(demo):
    browser = demo()
    browser.click("Store")
    browser.click("Change a byte")
    assert "The session is empty, because its document does not open." in browser.text
    assert "rejected: the seal does not match" in browser.text

    browser.click("Change it back")

    assert "The session is empty" not in browser.text
    assert '"Sherlock Holmes"' in browser.text


def test_mongodb_stops_and_starts_and_the_session_is_still_there(own_server, demo):
    browser = demo()
    browser.click("Store")

    browser.click("Stop MongoDB")

    assert "Service Unavailable" in browser.text
    check(browser, "503")
    browser.click("See whether MongoDB runs")
    assert "MongoDB is stopped" in browser.text
    check(browser, "stopped")
    assert browser.focused().accessible_name == "Start MongoDB again"
    with browser.next_page():
        browser.press(Keys.ENTER)
    assert browser.focused().accessible_name == "Stop MongoDB"
    assert "MongoDB runs again, and sessions are what they were." in browser.text
    assert '"Sherlock Holmes"' in browser.text


def test_a_visitor_without_a_session_stops_and_starts_mongodb_on_the_page(own_server, demo):
    browser = demo()

    browser.click("Stop MongoDB")

    assert "You have no session that this page would have to read" in browser.text
    check(browser, "stopped-without-session")
    browser.tab_to("Start MongoDB again")
    with browser.next_page():
        browser.press(Keys.ENTER)
    assert browser.focused().accessible_name == "Stop MongoDB"


def test_the_commands_of_an_action_are_unfolded_by_the_keyboard(demo):
    browser = demo()
    browser.click("Store")
    browser.click("Change the key")

    summary = browser.driver.find_element(By.CSS_SELECTOR, ".sent summary")
    assert summary.text == "3 commands sent to MongoDB: find, insert, update"
    summary.send_keys(Keys.ENTER)

    assert "filter: {_id: 01" in browser.text
