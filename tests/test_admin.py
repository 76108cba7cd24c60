"""The sessions of all users in Django's admin, without the table that Django has for sessions."""

import html
import re
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.test import Client
from django.test.utils import isolate_apps
from django.urls import path
from django.utils.formats import localize
from pymongo import MongoClient

from django_mongo_sessions import modeladmin, users
from django_mongo_sessions.admin import register
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.modeladmin import SessionAdmin, SessionPaginator
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.signals import session_revoked
from django_mongo_sessions.storage import dates, documents
from testproject import mongod
from tests.conftest import collection, count_sessions, use

URL = "/admin/sessions/session/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PYTHON = [sys.executable, "-W", "error", "-c"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def site(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_session")


@pytest.fixture
def alice():
    return User.objects.create_user("alice", "a@wonderland.example", "pw", is_staff=True)


@pytest.fixture
def root(mongod_engine):
    """A superuser who is signed in, in a browser."""
    return signed_in_browser(User.objects.create_superuser("root", password="pw"))


def signed_in_browser(user):
    browser = Client()
    browser.force_login(user)
    browser.user = user
    return browser


def sign_in(user, **fields):
    """Store a session of a user, or of the id of one, with these fields."""
    session = SessionStore()
    if isinstance(user, str):
        session[SESSION_KEY] = user
    else:
        session[SESSION_KEY] = users.id_of(user)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session["secret"] = "of no other's concern"
    session.save()
    if fields:
        collection().update_one(itself(session), {"$set": fields})
    return session


def itself(session):
    return {"_id": documents.document_id(session.session_key)}


def is_stored(session):
    return collection().count_documents(itself(session)) == 1


def allow(user, *names):
    user.user_permissions.set(Permission.objects.filter(codename__in=names))


def rows(response):
    """Return the text of each cell of the list, and None for a row without a session."""
    assert response.status_code == 200, response
    body = response.content.decode().partition('<table id="result_list">')[2]
    found = re.findall(r"<tr>(<td.*?|<th.*?)</tr>", body.partition("<tbody>")[2], re.DOTALL)
    return [
        {name: text_of(cell) for name, cell in re.findall(r"field-(\w+)[^>]*>(.*?)</t[dh]>", row)}
        for row in found
    ]


def text_of(markup):
    return html.unescape(re.sub(r"<[^>]+>", "", markup)).strip()


def names(response):
    return [row["user"] for row in rows(response)]


def pks(browser, query=""):
    return re.findall(
        r'name="_selected_action" value="([^"]+)"', browser.get(URL + query).content.decode()
    )


def end(browser, chosen, query="", **data):
    """Tick sessions, choose to end them, and confirm; return the response."""
    data = {"action": "delete_selected", "_selected_action": chosen, "post": "yes", **data}
    return browser.post(URL + query, data, follow=True)


def messages(response):
    return [str(message) for message in response.context["messages"]]


# The list


def test_a_row_tells_who_is_signed_in_where_and_since_when(root, alice):
    moment = dates.utc_now().replace(year=2030, month=2, day=1, hour=13, minute=30)
    sign_in(alice, user_agent=FIREFOX, address="192.0.2.7", seen_at=moment, created_at=moment)

    [row] = [row for row in rows(root.get(URL)) if row["user"] == "alice"]

    assert row["device"] == "Firefox on Linux"
    assert row["address"] == "192.0.2.7"
    assert row["last_seen_at"] == row["signed_in_at"] == "Feb. 1, 2030, 1:30 p.m."
    assert row["note"] == "-"


def test_what_is_not_recorded_is_not_shown(root, alice):
    sign_in(alice)

    [row, _] = rows(root.get(URL))

    assert row["address"] == "-"
    assert row["device"] == "Unknown device"


@pytest.mark.parametrize("use_tz", [True, False])
def test_dates_are_in_the_time_zone_of_the_site(root, settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Asia/Tokyo"
    moment = dates.utc_now().replace(year=2030, month=2, day=1, hour=13, minute=30)
    sign_in("7", seen_at=moment)

    assert rows(root.get(URL))[0]["last_seen_at"] == "Feb. 1, 2030, 10:30 p.m."


def test_a_date_that_the_time_zone_does_not_have_is_in_utc(root, alice, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    odd = dates.LATEST
    sign_in(alice, created_at=odd, seen_at=odd)

    [row] = [row for row in rows(root.get(URL)) if row["user"] == "alice"]

    assert row["signed_in_at"] == row["last_seen_at"] == localize(odd)


def test_ones_own_session_is_marked(root, alice):
    sign_in(root.user)
    sign_in(alice)

    notes = [row["note"] for row in rows(root.get(URL))]

    assert sorted(notes) == ["-", "-", "this session"]


def test_anonymous_and_expired_sessions_are_left_out(root, alice):
    anonymous = SessionStore()
    anonymous["a"] = 1
    anonymous.save()
    sign_in(alice, expires_at=dates.utc_now() - timedelta(seconds=1))
    collection().insert_one(
        {"user_id": str(alice.pk), "expires_at": dates.add_seconds(dates.utc_now(), 60)}
    )

    assert names(root.get(URL)) == ["root"]


def test_a_session_that_a_new_password_has_ended_is_marked(root, alice):
    sign_in(alice)
    alice.set_password("new")
    alice.save()
    sign_in(alice)

    notes = [row["note"] for row in rows(root.get(URL)) if row["user"] == "alice"]

    assert sorted(notes) == ["-", "ended by a new password"]


def test_a_session_that_somebody_else_uses_is_marked(root, alice):
    sign_in(alice, impersonator_id=str(root.user.pk))
    sign_in(alice, impersonator_id="77")

    notes = [row["note"] for row in rows(root.get(URL)) if row["user"] == "alice"]

    assert sorted(notes) == ["used by 77", "used by root"]


@pytest.mark.parametrize("user_id", ["77", "no number", "9" * 40, "\0"])
def test_a_session_of_nobody_is_listed_by_the_id(root, alice, user_id):
    sign_in(user_id)
    sign_in(alice)

    found = {row["user"]: row["note"] for row in rows(root.get(URL))}

    assert found == {user_id: "no such user", "alice": "-", "root": "this session"}


def test_names_and_agents_that_hold_markup_are_text(root):
    user = User.objects.create_user("<b>bob</b>")
    sign_in(user, user_agent="<i>/1 <script>alert(1)</script>", address="<u>")
    sign_in("<s>")

    page = root.get(URL).content.decode()
    confirmation = root.post(
        URL, {"action": "delete_selected", "index": 0, "_selected_action": pks(root)}
    )

    for text in (page, confirmation.content.decode()):
        for markup in ("<b>bob", "<i>", "<script>alert", "<u>", "<s>"):
            assert markup not in text
        assert "&lt;b&gt;bob" in text


def test_no_key_no_id_and_no_data_of_a_session_is_shown(root, alice):
    session = sign_in(alice, user_agent=FIREFOX)
    chosen = pks(root)
    pages = [
        root.get(URL),
        root.post(URL, {"action": "delete_selected", "index": 0, "_selected_action": chosen}),
        end(root, chosen[:1]),
        root.get("/admin/"),
    ]

    for page in pages:
        for secret in (session.session_key, itself(session)["_id"].hex(), "concern"):
            assert secret not in page.content.decode()


def test_a_checkbox_is_named_by_user_and_device(root, alice):
    sign_in(alice, user_agent=FIREFOX)

    page = root.get(URL).content.decode()

    if "Select this object" in page:  # from Django 5.0
        assert "alice: Firefox on Linux, signed in" in page
    assert 'id="action-toggle"' in page


def test_a_page_is_two_commands_and_two_queries(root, alice, commands, django_assert_num_queries):
    run(indexes.mend())
    for _ in range(3):
        sign_in(alice)
    root.get("/admin/")
    commands.sent.clear()

    with django_assert_num_queries(2):
        response = root.get(URL)

    assert len(rows(response)) == 4
    # The first loads the session of the request.
    assert commands.names() == ["find", "aggregate", "find"]


def test_the_list_works_on_mongomock_too(settings, alice):
    use(settings, "mongomock://")
    sign_in(alice)
    root = signed_in_browser(User.objects.create_superuser("root"))

    assert sorted(names(root.get(URL))) == ["alice", "root"]
    assert len(pks(root, f"?user={alice.pk}")) == 1
    end(root, pks(root, f"?user={alice.pk}"))
    assert names(root.get(URL)) == ["root"]
    clients.reset()


# Pages


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(SessionAdmin, "list_per_page", 4)
    monkeypatch.setattr(SessionAdmin, "list_max_show_all", 6)
    monkeypatch.setattr(SessionAdmin, "max_count", 10)
    monkeypatch.setattr(SessionPaginator, "max_pages", 2)


def test_those_that_expire_last_are_on_the_first_page(root, small_pages):
    later = dates.add_seconds(dates.utc_now(), 10**8)
    for number in range(6):
        sign_in(str(number + 100), expires_at=dates.add_seconds(later, number))

    assert names(root.get(URL)) == ["105", "104", "103", "102"]
    second = root.get(URL + "?p=2")
    assert names(second) == ["101", "100", "root"]
    assert second.context["cl"].result_count == 7
    # More than may be shown on one page.
    assert len(rows(root.get(URL + "?all="))) == 4


def test_rows_can_be_indexed_and_cut(mongod_engine, rf):
    later = dates.add_seconds(dates.utc_now(), 10**8)
    for number in range(4):
        sign_in(str(number), expires_at=dates.add_seconds(later, -number))
    every = SessionAdmin(Session, admin.site).get_queryset(rf.get("/"))

    def ids(part):
        return [row.line.name for row in part]

    assert every[1].line.name == "1"
    assert ids(every[1:3]) == ["1", "2"]
    assert ids(every[1:3][1:]) == ids(every[1:3][1:2]) == ["2"]
    assert ids(every[3:]) == ["3"]
    assert ids(every[:0]) == []
    assert ids(every.filter(pk__in=[every[2].pk])[:1]) == ["2"]


def test_all_are_shown_on_one_page_if_they_are_few(root, alice, small_pages):
    for _ in range(5):
        sign_in(alice)

    assert len(rows(root.get(URL + "?all="))) == 6


@pytest.mark.parametrize(
    "query", ["?p=99", "?p=0", "?bogus=1", "?session_key=a", "?expire_date__gt=2030-01-01"]
)
def test_what_django_does_not_take_leads_to_the_whole_list(root, alice, small_pages, query):
    for _ in range(5):
        sign_in(alice)

    response = root.get(URL + query, follow=True)

    assert response.redirect_chain == [(URL + "?e=1", 302)]
    assert len(rows(response)) == 4


def test_count_and_pages_end_at_their_limits(root, alice, small_pages):
    for _ in range(12):
        sign_in(alice)

    response = root.get(URL + "?p=2")

    assert len(rows(response)) == 4
    assert response.context["cl"].result_count == 10
    assert response.context["cl"].paginator.num_pages == 2
    assert root.get(URL + "?p=3").status_code == 302


# Search and filter


def test_users_are_found_as_in_their_own_admin(root, alice):
    sign_in(alice)

    for query in ("alice", "ALI", "wonderland"):
        assert names(root.get(URL, {"q": query})) == ["alice"]
    assert names(root.get(URL, {"q": "root"})) == ["root"]


@pytest.mark.parametrize("query", ["no such user", "a" * 10_000, "a " * 5_000, "%", "root alice"])
def test_a_search_that_finds_nobody_has_an_empty_list(root, alice, query):
    sign_in(alice)

    response = root.get(URL, {"q": query})

    assert rows(response) == []
    assert response.context["cl"].result_count == 0


@pytest.mark.parametrize("query", ["", " ", "\0"])
def test_a_search_for_nothing_has_the_whole_list(root, alice, query):
    sign_in(alice)

    assert len(rows(root.get(URL, {"q": query}))) == 2


@pytest.mark.parametrize("field", ["no_field", "date_joined__year"])
def test_a_search_that_the_admin_of_users_cannot_do_finds_nobody(root, monkeypatch, field):
    monkeypatch.setattr(UserAdmin, "search_fields", [field])

    assert rows(root.get(URL, {"q": "root"})) == []


def test_the_users_that_a_staff_member_may_not_see_are_not_found(root, alice, monkeypatch):
    monkeypatch.setattr(
        UserAdmin, "get_queryset", lambda self, request: User.objects.exclude(pk=alice.pk)
    )
    sign_in(alice)

    assert rows(root.get(URL, {"q": "alice"})) == []


def test_who_may_not_view_users_finds_them_by_name_only(mongod_engine, alice):
    allow(alice, "view_session")
    browser = signed_in_browser(alice)

    assert names(browser.get(URL, {"q": "LIC"})) == ["alice"]
    assert rows(browser.get(URL, {"q": "wonderland"})) == []

    allow(alice, "view_session", "view_user")
    assert names(browser.get(URL, {"q": "wonderland"})) == ["alice"]


def test_so_does_everybody_if_the_admin_of_users_has_no_search(root, alice, monkeypatch):
    monkeypatch.setattr(UserAdmin, "search_fields", [])
    sign_in(alice)

    assert names(root.get(URL, {"q": "LIC"})) == ["alice"]


def test_a_search_that_finds_too_many_users_says_so_once(root, alice, monkeypatch):
    monkeypatch.setattr(modeladmin, "_FOUND_USERS", 1)
    sign_in(alice)

    response = root.get(URL, {"q": "o"})

    assert len(rows(response)) == 1
    assert messages(response) == ["Sessions are searched only for the first 1 users that match."]
    assert messages(end(root, pks(root, "?q=o"), "?q=o"))[0].startswith("Success")


def test_the_filter_has_ones_own_sessions_and_those_of_the_user_that_is_asked_for(root, alice):
    sign_in(alice)
    own = root.get(URL, {"user": root.user.pk})
    others = root.get(URL, {"user": alice.pk})

    assert names(own) == ["root"]
    assert names(others) == ["alice"]
    assert names(root.get(URL, {"user": ""})) == names(root.get(URL))
    assert rows(root.get(URL, {"user": alice.pk, "q": "root"})) == []
    labels = [
        choice["display"]
        for choice in others.context["cl"].filter_specs[0].choices(others.context["cl"])
    ]
    assert labels == ["All", "root", str(alice.pk)]


@pytest.mark.parametrize("user", ["0", "a" * 10_000, "\0", "<b>", '{"$gt": ""}'])
def test_the_filter_takes_anything(root, user):
    assert rows(root.get(URL, {"user": user})) == []


# How sessions end


def test_those_that_are_ticked_end_once_that_is_confirmed(root, alice):
    one, other, third = sign_in(alice, user_agent=FIREFOX), sign_in(alice), sign_in("77")
    chosen = pks(root, f"?user={alice.pk}") + pks(root, "?user=77")
    asked = root.post(URL, {"action": "delete_selected", "index": 0, "_selected_action": chosen})

    text = text_of(asked.content.decode())
    assert "Sessions: 3" in text
    assert "alice: Firefox on Linux, signed in" in text
    assert "77: Unknown device, signed in" in text
    assert all(map(is_stored, (one, other, third)))
    confirmed = re.findall(r'name="_selected_action" value="([^"]+)"', asked.content.decode())
    assert sorted(confirmed) == sorted(chosen)

    response = end(root, confirmed)

    assert messages(response) == ["Successfully deleted 3 sessions."]
    assert names(response) == ["root"]
    assert not any(map(is_stored, (one, other, third)))


def test_it_is_logged_in_the_history_of_the_user(root, alice):
    sign_in(alice, user_agent=FIREFOX, address="192.0.2.7")
    sign_in(alice)
    sign_in("77")

    end(root, [pk for pk in pks(root) if not pk.startswith(f"{root.user.pk}:")])

    found = {entry.object_id: entry for entry in LogEntry.objects.all()}
    assert set(found) == {str(alice.pk), "77"}
    entry = found[str(alice.pk)]
    assert (entry.user, entry.action_flag) == (root.user, CHANGE)
    assert entry.get_edited_object() == alice
    assert str(entry.object_repr) == "alice"
    assert entry.get_change_message().count("Deleted session “") == 2
    assert "Firefox" not in entry.change_message
    assert "192.0.2" not in entry.change_message
    history = root.get(f"/admin/auth/user/{alice.pk}/history/")
    assert "Deleted session" in history.content.decode()


def test_a_signal_tells_that_an_administrator_has_ended_them(root, alice):
    sign_in(alice)
    heard = []

    def hear(sender, session, reason, request, **kwargs):
        heard.append((session.user_id, reason, request.user))

    session_revoked.connect(hear)
    try:
        end(root, pks(root, f"?user={alice.pk}"))
    finally:
        session_revoked.disconnect(hear)

    assert heard == [(str(alice.pk), "admin", root.user)]


def test_one_that_has_gone_in_the_meantime_is_no_error(root, alice):
    gone, left = sign_in(alice), sign_in(alice)
    chosen = pks(root, f"?user={alice.pk}")
    gone.delete()

    response = end(root, chosen)

    assert messages(response) == ["Successfully deleted 1 session."]
    assert not is_stored(left)
    assert end(root, chosen).status_code == 200  # nothing is left
    assert LogEntry.objects.count() == 1


def test_one_that_ends_while_it_is_ended_is_not_logged(root, alice, monkeypatch):
    session = sign_in(alice)
    chosen = pks(root, f"?user={alice.pk}")
    delete = SessionAdmin.delete_queryset

    def overtaken(self, request, queryset):
        list(queryset)
        session.delete()
        delete(self, request, queryset)

    monkeypatch.setattr(SessionAdmin, "delete_queryset", overtaken)

    assert end(root, chosen).status_code == 200
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("pk", ["", "junk", ":", "7:", "\0:\0", "a" * 10_000])
def test_what_names_no_session_ends_none(root, pk):
    before = collection().count_documents({})

    assert end(root, [pk]).status_code == 200
    assert collection().count_documents({}) == before


def test_the_name_of_one_users_session_is_of_no_use_with_another_user(root, alice):
    session = sign_in(alice)
    [pk] = pks(root, f"?user={alice.pk}")

    end(root, [f"{root.user.pk}:{pk.partition(':')[2]}"])

    assert is_stored(session)


def test_names_that_an_older_key_has_made_still_work(root, alice, settings):
    session = sign_in(alice)
    chosen = pks(root, f"?user={alice.pk}")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"

    assert end(root, chosen).status_code == 200
    assert not is_stored(session)


def test_ones_own_session_can_end_too(root):
    response = end(root, pks(root))

    assert response.redirect_chain[-1][0].startswith("/admin/login/")
    assert LogEntry.objects.get().object_id == str(root.user.pk)


def test_all_that_were_found_end_if_one_page_could_show_them(root, alice, small_pages):
    for _ in range(6):
        sign_in(alice)
    chosen = pks(root, "?q=alice")[:1]

    response = end(root, chosen, "?q=alice", select_across=1)

    assert messages(response) == ["Successfully deleted 6 sessions."]
    assert names(root.get(URL)) == ["root"]


def test_more_do_not_end_at_once(root, alice, small_pages):
    for _ in range(7):
        sign_in(alice)

    response = end(root, pks(root)[:1], select_across=1)

    [message] = messages(response)
    assert message.startswith("No more than 6 sessions can be ended at once.")
    assert count_sessions() == 8


# Permissions


def test_without_a_permission_there_is_no_list(mongod_engine, alice):
    browser = signed_in_browser(alice)

    assert browser.get(URL).status_code == 403
    assert end(browser, [f"{alice.pk}:x"]).status_code == 403


@pytest.mark.parametrize("permission", ["view_session", "change_session"])
def test_who_may_view_sessions_may_not_end_them(mongod_engine, alice, permission):
    allow(alice, permission)
    browser, session = signed_in_browser(alice), sign_in("77")

    assert len(rows(browser.get(URL))) == 2
    assert "delete_selected" not in browser.get(URL).content.decode()
    end(browser, [f"77:{users.list_sessions('77')[0].id}"])
    assert is_stored(session)


def test_who_may_delete_sessions_may_end_them(mongod_engine, alice):
    allow(alice, "view_session", "delete_session")
    browser, session = signed_in_browser(alice), sign_in("77")

    end(browser, pks(browser, "?user=77"))

    assert not is_stored(session)


@pytest.mark.parametrize("page", ["add/", "{}/change/", "{}/delete/", "{}/history/"])
def test_a_session_has_no_page_of_its_own(root, page):
    [pk] = pks(root)

    response = root.get(URL + page.format(pk))

    assert response.status_code in (302, 403)


# A user's page


def test_a_users_page_links_to_the_sessions_of_the_user(root, alice):
    sign_in(alice)
    page = root.get(f"/admin/auth/user/{alice.pk}/change/").content.decode()

    [link] = re.findall(r'<a href="([^"]+)"[^>]*>Sessions</a></li>', page)
    assert names(root.get(html.unescape(link))) == ["alice"]
    assert "History" in page


def test_not_for_those_who_may_not_view_sessions(mongod_engine, alice):
    allow(alice, "view_user")

    page = signed_in_browser(alice).get(f"/admin/auth/user/{alice.pk}/change/")

    assert URL not in page.content.decode()
    assert page.status_code == 200


another = admin.AdminSite("another")
another.register(User, UserAdmin)
urlpatterns = [path("another/", another.urls)]


def test_nor_on_an_admin_site_without_a_list_of_sessions(root, settings):
    settings.ROOT_URLCONF = __name__

    page = root.get(f"/another/auth/user/{root.user.pk}/change/")

    assert ">Sessions</a>" not in page.content.decode()
    assert page.status_code == 200


# Where it is registered


@pytest.fixture
def empty_site(monkeypatch):
    site = admin.AdminSite()
    monkeypatch.setattr(admin, "site", site)
    return site


def test_another_site_needs_one_line(empty_site):
    empty_site.register(Session, SessionAdmin)

    assert not empty_site._registry[Session].check()


@pytest.mark.parametrize(
    "config", ["django.contrib.admin", "django.contrib.admin.apps.SimpleAdminConfig"]
)
def test_it_is_registered_if_nobody_else_has(empty_site, settings, config):
    apps = [config if app == "django.contrib.admin" else app for app in settings.INSTALLED_APPS]
    settings.INSTALLED_APPS = apps

    register()

    assert type(empty_site._registry[Session]) is SessionAdmin


def test_what_another_app_has_registered_stays(empty_site):
    empty_site.register(Session)

    register()

    assert type(empty_site._registry[Session]) is admin.ModelAdmin


def test_with_another_engine_it_is_not_registered(empty_site, settings):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"

    register()

    assert not empty_site.is_registered(Session)


def test_nor_without_the_app_of_the_model(empty_site, settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if "contrib.sessions" not in app
    ]

    register()

    assert not empty_site._registry


def test_an_app_that_registers_the_model_may_be_listed_later(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/__init__.py").touch()
    (tmp_path / "theirs/admin.py").write_text(
        "from django.contrib import admin\n"
        "from django.contrib.sessions.models import Session\n"
        "from django_mongo_sessions.modeladmin import SessionAdmin\n"
        "@admin.register(Session)\n"
        "class TheirAdmin(SessionAdmin):\n"
        "    pass\n"
    )
    code = (
        "import django\n"
        "from django.conf import settings\n"
        "from testproject import settings as given\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "given.INSTALLED_APPS.append('theirs')\n"
        "django.setup()\n"
        "from django.contrib import admin\n"
        "from django.contrib.sessions.models import Session\n"
        "print(type(admin.site._registry[Session]).__name__)\n"
    )
    code = "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'testproject.settings'\n" + code
    ran = subprocess.run([*PYTHON, code], capture_output=True, text=True, check=False)

    assert ran.stderr == ""
    assert ran.stdout == "TheirAdmin\n"


# Other users, and no MongoDB


@pytest.fixture
def people(monkeypatch):
    """`people(key)` makes a model of users with a primary key of that kind, and its table."""

    def people(key):
        class Person(AbstractBaseUser):
            id = key
            email = models.TextField()
            USERNAME_FIELD = "email"

            class Meta:
                app_label = "testproject"

        editor = connection.schema_editor(collect_sql=True)
        editor.deferred_sql = []
        editor.create_model(Person)
        with connection.cursor() as cursor:
            cursor.execute(editor.collected_sql[0])
        monkeypatch.setattr(modeladmin, "get_user_model", lambda: Person)
        return Person

    with isolate_apps("testproject"):
        yield people
    ContentType.objects.clear_cache()  # it may have one that the database has forgotten


@pytest.mark.parametrize("default", [{}, {"default": uuid4}], ids=["given", "made up"])
def test_users_may_have_keys_of_any_kind(root, people, default):
    person = people(models.UUIDField(primary_key=True, **default)).objects.create(
        id=uuid4(), email="p@example.com"
    )
    session = sign_in(person)

    assert names(root.get(URL, {"q": "example"})) == ["p@example.com"]
    assert len(rows(root.get(URL))) == 2  # the other one's id is no UUID
    end(root, pks(root, "?q=example"))
    assert not is_stored(session)


def test_no_database_is_asked_for_an_id_with_a_nul_character(people):
    model = people(models.CharField(primary_key=True, max_length=9))

    assert modeladmin._pk(model, "a") == "a"
    assert modeladmin._pk(model, "a\0") is None
    assert modeladmin._pk(model, "a" * 10) is None


class UncheckedField(models.IntegerField):
    validators = []


def test_an_id_that_the_database_cannot_take_is_listed(root, people):
    people(UncheckedField(primary_key=True))
    sign_in("9" * 40)

    assert sorted(names(root.get(URL))) == sorted(["9" * 40, str(root.user.pk)])


def test_if_mongodb_goes_down_within_a_request_the_response_is_a_503(settings, tmp_path):
    with mongod.running(tmp_path / "mongod", "--setParameter", "enableTestCommands=1") as uri:
        use(settings, uri)
        settings.DEBUG = False
        root = signed_in_browser(User.objects.create_superuser("root"))
        root.raise_request_exception = False
        with MongoClient(uri) as client:
            for page, command in ((URL, "aggregate"), ("/account/sessions/", "find")):
                # Not the find that loads the session of the request.
                mode = {"skip": int(command == "find")}
                data = {"failCommands": [command], "errorCode": 50}
                client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
                response = root.get(page)

                assert response.status_code == 503
                assert "Retry-After" in response.headers
        clients.reset()
