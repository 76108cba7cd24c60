"""The sessions of all users in Django's admin, in Chromium."""

from datetime import timedelta

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import dates, documents
from tests.browser.chromium import FIREFOX, IPHONE, PHONE
from tests.browser.conftest import PASSWORD
from tests.conftest import collection

LIST = "/admin/sessions/session/"
USERS = "/admin/auth/user/"
PAGE = "/account/sessions/"
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Safari/605.1.15"
)
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0"


def signed_in(browser, user, path=PAGE):
    browser.visit(path)
    browser.sign_in(user, PASSWORD)
    return browser


def devices(browser):
    """Return the user and the device of each row of the list."""
    found = browser.driver.find_elements(By.CSS_SELECTOR, "#result_list tbody tr")
    return [
        tuple(row.find_element(By.CLASS_NAME, f"field-{name}").text for name in ("user", "device"))
        for row in found
    ]


def boxes(browser):
    """Return the boxes that choose a row, by the beginning of their accessible names."""
    found = browser.driver.find_elements(By.NAME, "_selected_action")
    return {box.accessible_name.partition(", signed in")[0]: box for box in found}


def go_to(browser, element):
    """Press Tab until an element has the focus."""
    for _ in range(100):
        browser.press(Keys.TAB)
        if browser.focused() == element:
            return
    raise AssertionError(f"Tab does not come to {element.accessible_name!r}.")


def press_enter_at(browser, element):
    go_to(browser, element)
    with browser.next_page():
        browser.press(Keys.ENTER)


def test_staff_find_the_sessions_of_a_user_and_end_one_by_keyboard(open_browser, alice, admin):
    phone = signed_in(open_browser(user_agent=IPHONE, size=PHONE), alice)
    laptop = signed_in(open_browser(user_agent=FIREFOX), alice)
    staff = signed_in(open_browser(), admin, LIST)
    assert sorted(devices(staff)) == [
        ("admin", "Chrome on Linux"),
        ("alice", "Firefox on Linux"),
        ("alice", "Safari on iPhone"),
    ]

    go_to(staff, staff.driver.find_element(By.NAME, "q"))
    staff.press("alice@example.com")
    with staff.next_page():
        staff.press(Keys.ENTER)
    assert devices(staff) == [("alice", "Firefox on Linux"), ("alice", "Safari on iPhone")]

    go_to(staff, staff.driver.find_element(By.NAME, "action"))
    staff.press("Delete")
    go_to(staff, boxes(staff)["Select this object for an action - alice: Safari on iPhone"])
    staff.press(Keys.SPACE)
    press_enter_at(staff, staff.driver.find_element(By.NAME, "index"))
    assert "alice: Safari on iPhone, signed in" in staff.text
    assert "Firefox on Linux" not in staff.text
    staff.shoot("admin-confirm")
    press_enter_at(staff, staff.driver.find_element(By.CSS_SELECTOR, "input[type=submit]"))

    assert "Successfully deleted 1 session." in staff.text
    assert devices(staff) == [("alice", "Firefox on Linux")]
    phone.visit(PAGE)
    assert phone.path.startswith("/signin/")
    laptop.visit(PAGE)
    assert laptop.path == PAGE


def test_a_users_page_leads_to_the_sessions_of_the_user(open_browser, alice, admin):
    signed_in(open_browser(user_agent=FIREFOX), alice)
    staff = signed_in(open_browser(), admin, f"{USERS}{alice.pk}/change/")

    with staff.next_page():
        staff.driver.find_element(By.CSS_SELECTOR, ".object-tools [href*=sessions]").click()
    assert devices(staff) == [("alice", "Firefox on Linux")]

    with staff.next_page():
        staff.driver.find_element(By.LINK_TEXT, "admin").click()  # the filter of one's own
    assert devices(staff) == [("admin", "Chrome on Linux")]
    assert "this session" in staff.text


def store(user, user_agent, address, minutes, **fields):
    """Store a session of a user, who has signed in three times as long ago as was last seen."""
    session = SessionStore()
    session[SESSION_KEY] = users.id_of(user)
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    now, ago = dates.utc_now(), timedelta(minutes=minutes)
    fields |= {"user_agent": user_agent, "address": address, "seen_at": now - ago}
    fields |= {"created_at": now - 3 * ago, "expires_at": now + timedelta(days=14) - ago}
    wanted = {"_id": documents.document_id(session.session_key)}
    collection().update_one(wanted, {"$set": fields})


def test_the_list_has_no_flaw_that_djangos_own_lists_have_not(open_browser, alice, admin):
    def flaws(path):
        staff.visit(path)
        return {each.partition(":")[0] for each in staff.violations()}

    bob = User.objects.create_user("bob")
    carla = User.objects.create_user("carla", password=PASSWORD)
    store(carla, FIREFOX, "203.0.113.0/24", 3000)
    carla.set_password("another")
    carla.save()
    store(alice, FIREFOX, "192.0.2.0/24", 4)
    store(alice, IPHONE, "198.51.100.0/24", 50)
    store(bob, SAFARI, "2001:db8:77::/48", 12)
    store(bob, FIREFOX, "192.0.2.0/24", 1, impersonator_id=users.id_of(admin))
    store(carla, EDGE, "203.0.113.0/24", 700)
    staff = signed_in(open_browser(size=(1400, 640)), admin, LIST)
    staff.shoot("admin")
    notes = ("this session", "used by admin", "ended by a new password")
    assert all(staff.text.count(note) == 1 for note in notes)

    assert flaws(LIST) <= flaws(USERS)
    staff.resize(*PHONE)
    staff.prefer_dark()
    staff.visit(LIST)
    staff.shoot("admin-phone-dark")
    assert not staff.scrolls_sideways()
