"""The test project's site: the article's views, the page, and every form on it."""

from __future__ import annotations

import re
import threading
from datetime import datetime, timedelta, timezone

import django
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils.module_loading import import_string

from django_mongo_sessions.conf import conf
from django_mongo_sessions.storage import documents
from testproject import server
from testproject import settings as given
from testproject.actions import ACTIONS
from testproject.overriding import overriding
from tests.conftest import collection, count_sessions

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def as_in_the_demo(engine, demo_settings):
    """The settings of the demo, on each engine."""


needs_async_sessions = pytest.mark.skipif(
    django.VERSION < (5, 1), reason="Django 5.1 is the first with aset() and aget()"
)


def post(client, name, **data):
    """Send one of the page's forms, and return the level and text of each message."""
    response = client.post(f"/do/{name}/", data, follow=True)

    assert response.redirect_chain == [(f"/#do-{name}", 302)]
    return [(message.level_tag, message.message) for message in response.context["messages"]]


def page(client):
    """Return the page's text: no tags, no runs of white space, nothing escaped."""
    response = client.get("/")

    assert response.status_code == 200
    text = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(text.replace("&quot;", '"').replace("&#x27;", "'").split())


def document(client):
    """Return what MongoDB holds for the client's cookie."""
    return collection().find_one({"_id": documents.document_id(client.session.session_key)})


# The article's views


def test_the_articles_views_respond_as_in_the_article(client):
    assert client.get("/getsession/").content == b"The Book Name is: None"
    assert client.get("/setsession/").content == b"The Session has been successfully set"
    assert client.get("/getsession/").content == b"The Book Name is: Sherlock Holmes"


@needs_async_sessions
def test_the_async_views_respond_the_same(client):
    assert client.get("/agetsession/").content == b"The Book Name is: None"
    assert client.get("/asetsession/").content == b"The Session has been successfully set"
    assert client.get("/agetsession/").content == b"The Book Name is: Sherlock Holmes"
    assert client.get("/getsession/").content == b"The Book Name is: Sherlock Holmes"


@pytest.mark.parametrize(
    "view", ["getsession", pytest.param("agetsession", marks=needs_async_sessions)]
)
def test_a_script_in_the_name_of_a_book_does_not_run(client, view):
    post(client, "set_key", key="book_name", value="<script>alert(1)</script>")

    assert client.get(f"/{view}/")["Content-Type"] == "text/plain; charset=utf-8"
    assert b"<script>" not in client.get("/").content


# The page


def test_the_page_itself_begins_no_session(client):
    text = page(client)

    assert "You have no session yet." in text
    assert "Nothing for this browser." in text
    assert "sessionid" not in client.cookies
    assert count_sessions() == 0


def test_the_page_shows_both_sides_of_a_session(client):
    client.get("/setsession/")
    stored = document(client)

    text = page(client)

    assert client.session.session_key in text
    assert 'book_name "Sherlock Holmes"' in text
    assert "14 days 1209600 seconds" in text
    assert stored["_id"].hex() == text.partition("_id ")[2][:67].replace(" ", "")
    assert "form 01 sealed" in text
    assert stored["payload"][1:33].hex() in text
    assert 'body {"book_name":"Sherlock Holmes"}' in text
    assert "revision 0" in text
    assert f"{stored['expires_at']:%Y-%m-%d %H:%M:%S} UTC" in text
    assert "absent, because no user is signed in" in text


def test_the_page_says_that_it_cannot_show_a_compressed_payload(client, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "COMPRESS": 1024}
    post(client, "set_key", key="novel", value="Holmes " * 170)
    size = len(document(client)["payload"]) - 33

    text = page(client)

    assert f"form 02 sealed and compressed seal {document(client)['payload'][1:33].hex()}" in text
    assert f"body {size} bytes" in text


def test_the_page_shows_fields_of_a_projects_own(client):
    client.get("/setsession/")
    collection().update_one({}, {"$set": {"account_id": 1887}})

    assert "account_id 1887" in page(client)


@pytest.mark.parametrize("payload", [b"", b"\x03forged", "not even bytes"])
def test_the_page_shows_a_document_that_does_not_open(client, payload):
    client.get("/setsession/")
    collection().update_one({}, {"$set": {"payload": payload}})

    text = page(client)

    assert "its document does not open." in text
    assert f"Session {documents.document_id(client.session.session_key).hex()} rejected" in text


def test_signing_in_changes_the_key_and_keeps_the_data(client):
    User.objects.create_superuser("demo", password="demo")
    client.get("/setsession/")
    key = client.session.session_key

    response = client.post("/signin/", {"username": "demo", "password": "demo", "next": "/"})

    assert response.url == "/"
    assert client.session.session_key != key
    assert client.session["book_name"] == "Sherlock Holmes"
    assert count_sessions() == 1
    text = page(client)
    assert f"user_id {User.objects.get().pk}" in text
    assert "signed in as demo" in text


def test_the_page_leads_to_the_users_sessions_and_to_the_admin(client):
    html = client.get("/").content.decode()

    assert 'href="/account/sessions/"' in html
    assert 'href="/admin/sessions/session/"' in html
    assert client.get("/account/sessions/").url == "/signin/?next=/account/sessions/"
    client.force_login(User.objects.create_user("alice"))
    html = client.get("/account/sessions/").content.decode()
    assert "This device" in html
    assert 'href="/">Back to the demo</a>' in html


def test_the_page_names_five_browsers_and_counts_the_others(client):
    alice = User.objects.create_user("alice")
    for browser in [*(Client() for _ in range(6)), client]:
        browser.force_login(alice)

    text = page(client)

    assert "In 7 browsers" in text
    assert text.count(", this browser") == 1
    assert "and 2 more" in text


def test_signing_out_returns_to_the_page_without_a_session(client):
    client.force_login(User.objects.create_superuser("demo", password="demo"))

    response = client.post("/signout/")

    assert response.url == "/"
    assert count_sessions() == 0
    assert "You have no session yet." in page(client)


# The forms


def test_a_key_can_be_set_and_read(client):
    assert post(client, "set_key", key="city", value="London") == [
        ("success", "'city' is now \"London\".")
    ]
    assert post(client, "get_key", key="city") == [("success", "'city' is \"London\".")]
    assert client.session["city"] == "London"


def test_a_missing_key_is_reported(client):
    assert post(client, "get_key", key="city") == [
        ("success", "There is no 'city' in the session, so get() returns None.")
    ]
    assert "sessionid" not in client.cookies


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("null", None),
        ('{"pages": [1, 2]}', {"pages": [1, 2]}),
        ("[1, 2", "[1, 2"),
        ('"\\ud800"', '"\\ud800"'),
    ],
)
def test_a_value_is_json_if_possible_and_otherwise_text(client, text, value):
    post(client, "set_key", key="key", value=text)

    assert client.session["key"] == value
    page(client)


def test_the_most_deeply_nested_value_that_the_form_accepts_can_be_shown(client):
    post(client, "set_key", key="key", value="[" * 600 + "]" * 600)

    page(client)
    assert post(client, "get_key", key="key")[0][0] == "success"


def test_a_long_value_does_not_lose_its_message(client):
    text = "".join(chr(0x4E00 + number) for number in range(1200))

    ((level, message),) = post(client, "set_key", key="書" * 40, value=text)

    assert level == "success"
    assert len(message) < 200


@pytest.mark.parametrize(
    ("name", "data", "seconds", "message"),
    [
        ("set_expiry_seconds", {"value": "90"}, 90, "in 1 minute and 30 seconds."),
        ("set_expiry_timedelta", {"value": "30"}, 1800, "in "),
        ("set_expiry_browser", {}, 1209600, "when the browser is closed."),
        ("set_expiry_default", {}, 1209600, "in 14 days."),
    ],
)
def test_the_expiry_can_be_set_in_each_form(client, name, data, seconds, message):
    client.get("/setsession/")

    ((level, said),) = post(client, name, **data)

    assert level == "success"
    assert said.startswith("The session now ends ")
    assert message in said
    assert seconds - 60 < client.session.get_expiry_age() <= seconds
    assert client.session.get_expire_at_browser_close() is (name == "set_expiry_browser")
    stored = document(client)
    lasts = (stored["expires_at"] - stored["seen_at"]).total_seconds()
    assert seconds - 60 < lasts <= seconds


def test_the_expiry_can_be_a_moment_in_the_current_time_zone(client, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    client.get("/setsession/")
    moment = (datetime.now(timezone.utc) + timedelta(days=3)).replace(second=0, microsecond=0)
    tokyo = moment.astimezone(timezone(timedelta(hours=9)))

    ((level, _),) = post(client, "set_expiry_datetime", value=f"{tokyo:%Y-%m-%dT%H:%M}")

    assert level == "success"
    assert client.session.get_expiry_date() == moment
    assert document(client)["expires_at"] == moment
    assert "In the current time zone, Asia/Tokyo." in page(client)


def test_the_default_expiry_can_be_restored(client):
    client.get("/setsession/")
    post(client, "set_expiry_seconds", value="90")

    post(client, "set_expiry_default")

    assert client.session.get_expiry_age() == 1209600


def test_the_age_and_the_date_of_expiry_are_shown(client):
    post(client, "set_expiry_seconds", value="300")

    assert post(client, "get_expiry_age") == [
        ("success", "get_expiry_age() is 300 seconds: 5 minutes.")
    ]
    ((level, message),) = post(client, "get_expiry_date")
    assert level == "success"
    assert re.fullmatch(r"get_expiry_date\(\) is [-\d]{10} [:\d]{8} UTC\.", message)


def test_clearing_expired_sessions_shows_how_many_there_were(client):
    client.get("/setsession/")
    collection().drop_indexes()  # or MongoDB's TTL monitor might be faster
    past = datetime.now(timezone.utc) - timedelta(days=1)
    collection().update_one({}, {"$set": {"expires_at": past}})

    assert post(Client(), "clear_expired") == [
        ("success", "clear_expired() removed 1 expired session.")
    ]
    assert post(client, "clear_expired") == [
        ("success", "clear_expired() removed 0 expired sessions.")
    ]
    assert count_sessions() == 0


def test_cycling_the_key_shows_the_old_and_the_new_one(client):
    client.get("/setsession/")
    old = client.session.session_key

    messages = post(client, "cycle_key")

    new = client.session.session_key
    assert new != old
    assert messages == [("success", f"The key was {old} and is now {new}.")]
    assert client.session["book_name"] == "Sherlock Holmes"


def test_flushing_deletes_the_document_and_the_cookie(client):
    client.get("/setsession/")

    ((level, _),) = post(client, "flush")

    assert level == "success"
    assert count_sessions() == 0
    assert client.cookies["sessionid"].value == ""


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("set_key", {"key": "city", "value": " "}, "Value: This field is required."),
        ("set_key", {"key": "", "value": "x"}, "Key: This field is required."),
        ("set_key", {"key": "_auth_user_id", "value": "1"}, "Key: Keys that begin with _ belong"),
        ("set_key", {"key": "k" * 41, "value": "x"}, "Key: Ensure this value has at most 40"),
        ("set_key", {"key": "k", "value": "v" * 1201}, "Value: Ensure this value has at most"),
        ("get_key", {}, "Key: This field is required."),
        ("set_expiry_seconds", {"value": "soon"}, "Seconds: Enter a whole number."),
        ("set_expiry_seconds", {"value": "0"}, "Seconds: Ensure this value is greater than"),
        ("set_expiry_seconds", {"value": "9" * 12}, "Seconds: Ensure this value is less than"),
        ("set_expiry_timedelta", {"value": "-5"}, "Minutes: Ensure this value is greater than"),
        ("set_expiry_timedelta", {"value": "9" * 12}, "Minutes: Ensure this value is less than"),
        ("set_expiry_datetime", {"value": "tea time"}, "Date and time: Enter a valid date/time."),
        ("set_expiry_datetime", {"value": "1887-11-01T12:00"}, "Date and time: Choose a moment"),
        ("set_expiry_datetime", {"value": "9999-12-31T23:59"}, "Date and time: Choose a moment"),
    ],
)
def test_wrong_input_is_reported_and_changes_nothing(client, name, data, said):
    client.get("/setsession/")
    before = document(client)

    response = client.post(f"/do/{name}/", data)

    assert response.status_code == 422
    assert document(client) == before
    html = response.content.decode()
    [(field, error)] = re.findall(r'<p class="error" id="(.+)_error" role="alert">(.*?)</p>', html)
    label, _, words = said.partition(": ")
    assert f'<label for="{field}">{label}</label>' in html
    assert error.startswith(words)
    [shown] = re.findall(rf'<(?:input|textarea)[^>]*\bid="{field}"[^>]*>', html)
    assert 'aria-invalid="true"' in shown
    assert "autofocus" in shown


def test_the_page_is_english_whatever_the_browser_asks_for(client):
    client.get("/setsession/")
    german = {"HTTP_ACCEPT_LANGUAGE": "de"}

    html = client.post("/do/set_key/", {"key": "", "value": "x"}, **german).content.decode()

    assert "This field is required." in html
    assert "Username" in client.get("/signin/", **german).content.decode()
    client.force_login(User.objects.create_user("alice"))
    assert '<html lang="de"' in client.get("/account/sessions/", **german).content.decode()


def test_what_was_typed_is_kept_if_it_is_refused(client):
    html = client.post("/do/set_key/", {"key": "_mine", "value": "<violin>"}).content.decode()

    assert 'value="_mine"' in html
    assert "&lt;violin&gt;</textarea>" in html


def test_a_refused_form_is_not_folded(client):
    html = client.post("/do/set_expiry_seconds/", {"value": "soon"}).content.decode()

    assert '<details class="fold" open>' in html
    assert '<details class="fold" open>' not in client.get("/").content.decode()


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_needs_post(client, name):
    client.get("/setsession/")
    before = document(client)

    assert client.get(f"/do/{name}/").url == f"/#do-{name}"
    assert document(client) == before


def test_an_action_that_does_not_exist_is_not_found(client):
    assert client.post("/do/dance/").status_code == 404


def test_a_form_without_its_token_is_refused():
    assert Client(enforce_csrf_checks=True).post("/do/flush/").status_code == 403


def test_each_input_of_the_page_has_an_id_of_its_own_and_a_label(client):
    html = client.get("/").content.decode()
    ids = re.findall(r'\bid="([^"]+)"', html)

    assert len(ids) == len(set(ids))
    inputs = re.findall(r'<(?:input(?! type="hidden")|textarea)[^>]*\bid="([^"]+)"', html)
    assert inputs
    assert set(inputs) == set(re.findall(r'<label for="([^"]+)"', html))


# Tampering


def test_a_document_that_was_tampered_with_is_an_empty_session(client):
    client.get("/setsession/")
    key, before = client.session.session_key, document(client)

    post(client, "tamper")

    text = page(client)
    assert "its document does not open. Its seal does not match its body." in text
    assert "rejected: the seal does not match" in text
    assert 'body {"book_name":"Sherlock Holmer"}' in text
    assert client.cookies["sessionid"].value == key
    assert {**document(client), "payload": None} == {**before, "payload": None}


def test_the_byte_can_be_changed_back(client):
    client.get("/setsession/")
    before = document(client)
    post(client, "tamper")
    assert "Change it back" in page(client)

    post(client, "tamper")

    assert document(client) == before
    assert 'book_name "Sherlock Holmes"' in page(client)


def test_a_session_can_be_begun_beside_the_document_that_does_not_open(client):
    client.get("/setsession/")
    key = client.session.session_key
    post(client, "tamper")

    post(client, "set_key", key="city", value="London")

    assert client.session.session_key != key
    assert dict(client.session.items()) == {"city": "London"}
    assert count_sessions() == 2


def test_there_is_nothing_to_tamper_with_without_a_session(client):
    ((_, said),) = post(client, "tamper")

    assert said.startswith("There is no payload")


def test_tampering_is_a_503_while_mongodb_is_down(client, settings):
    client.get("/setsession/")
    down = {"URI": "mongodb://127.0.0.1:1", "TIMEOUT": 0.2}
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **down}
    client.raise_request_exception = False

    assert client.post("/do/tamper/").status_code == 503


# Experiments


def test_an_experiment_runs_only_when_its_button_is_pressed(client):
    text = " ".join(client.get("/try/two-tabs/").content.decode().split())

    assert "Run it" in text
    assert "What is left" not in text
    assert client.get("/try/fortune/").status_code == 404


def test_the_race_loses_updates_on_djangos_engine_and_not_on_ours(client):
    theirs, ours = client.post("/try/two-tabs/").context["outcomes"]

    assert theirs.lost == [
        "Tab 1's violin. The cart is gone.",
        "A visit. There were two more, and one is counted.",
    ]
    assert ours.lost == []
    assert ours.stored == {"language": "en", "visits": 3, "cart": "violin", "theme": "dark"}
    assert count_sessions() == 0


def test_a_key_that_both_tabs_change_is_merged_or_refused(client):
    theirs, merged, raised = client.post("/try/same-key/").context["outcomes"]

    assert len(theirs.lost) == 2
    assert merged.stored == {"language": "fr", "cart": "violin", "theme": "dark"}
    assert merged.lost == ["Tab 1's language. Tab 2 has changed it later."]
    assert raised.stored == {"language": "de", "cart": "violin"}
    assert raised.lost == []
    assert "SessionConflict" in raised.refused


def test_a_change_inside_a_value_is_noticed_if_somebody_looks(client):
    neither, view, tracked = client.post("/try/nested/").context["outcomes"]

    assert neither.lost == ["The bow. Nothing has noticed it."]
    assert view.stored == tracked.stored == {"cart": ["violin", "bow"]}
    assert view.lost == tracked.lost == []


def test_what_is_lost_is_said_in_a_word(client):
    html = client.post("/try/two-tabs/").content.decode()

    assert html.count("<strong>Lost:</strong>") == 2
    assert html.count("<strong>Nothing is lost.</strong>") == 1


def test_no_other_request_sees_the_settings_of_an_experiment():
    seen = []

    with overriding(ON_CONFLICT="raise"):
        thread = threading.Thread(target=lambda: seen.append(conf.ON_CONFLICT))
        thread.start()
        thread.join()
        seen.append(conf.ON_CONFLICT)

    assert [*seen, conf.ON_CONFLICT] == ["merge", "raise", "merge"]


# MongoDB itself, and the documentation


def test_a_server_that_the_demo_has_not_started_is_not_stopped(client, engine):
    text = page(client)

    assert "The page can only stop a MongoDB that the demo has started." in text
    assert ("mongomock takes its place" in text) == (engine == "mongomock")
    assert "<button" not in client.get("/mongodb/").content.decode()
    assert client.post("/mongodb/stop/").status_code == 404
    assert client.post("/mongodb/start/").status_code == 404
    assert client.get("/mongodb/stop/").status_code == 405


def test_a_visitor_without_a_session_can_start_a_stopped_server(client, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "own", server.Server(tmp_path / "mongod"))

    text = page(client)

    assert "MongoDB is stopped. You have no session that this page would have to read" in text
    assert "Start MongoDB again" in text


def test_the_page_says_why_a_server_does_not_start(client, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "own", server.Server(tmp_path / "mongod"))
    monkeypatch.setenv("MONGOD", "/nowhere/mongod")

    response = client.post("/mongodb/start/")

    assert response.status_code == 500
    html = response.content.decode()
    assert "MONGOD=/nowhere/mongod is not a program." in html
    assert "Start MongoDB again" in html


def test_the_documentation_is_read_from_its_files_until_it_is_published(client, settings):
    for name in re.findall(r'href="/docs/([\w-]+)\.md"', client.get("/").content.decode()):
        assert client.get(f"/docs/{name}.md").content.startswith(b"# ")
    assert client.get("/docs/fortune.md").status_code == 404

    settings.DOCS = "https://docs.example/"
    assert client.get("/docs/security.md").url == "https://docs.example/security.html"


def test_the_demo_has_cookies_of_its_own():
    djangos = {"sessionid", "csrftoken", "django_language", "messages"}
    names = {getattr(given, f"{kind}_COOKIE_NAME") for kind in ("SESSION", "CSRF", "LANGUAGE")}

    assert not djangos & {*names, import_string(given.MESSAGE_STORAGE).cookie_name}
