"""Sessions on a site with a package of others; tests/test_recipes.py runs them for each package."""

import re

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client

from django_mongo_sessions import users
from django_mongo_sessions.signals import session_revoked
from tests.conftest import collection
from tests.recipes import PASSWORD, browser, is_signed_in, record

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


@pytest.fixture
def alice():
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)


def a_page(user):
    """Return a browser whose requests are refused without a CSRF token, and the token."""
    client = browser(user, enforce_csrf_checks=True)
    token = client.get("/hello/").content.decode()
    return client, {"HTTP_X_CSRFTOKEN": token}


def test_rest_framework(alice):
    own, token = a_page(alice)
    others = [browser(alice), browser(alice)]

    found = own.get("/sessions").json()
    assert [each["is_current"] for each in found] == [True, False, False]
    assert {each["user_id"] for each in found} == {str(alice.pk)}

    assert own.delete("/sessions").status_code == 403
    assert Client().get("/sessions").status_code == 403
    assert own.delete("/sessions/junk", **token).status_code == 404
    assert users.count_sessions(alice) == 3

    assert own.delete(f"/sessions/{found[1]['id']}", **token).status_code == 204
    assert [is_signed_in(each) for each in others].count(True) == 1
    assert own.delete("/sessions", **token).json() == {"ended": 1}
    assert not any(map(is_signed_in, others))

    last = own.delete(f"/sessions/{found[0]['id']}", **token)
    assert (last.status_code, last.cookies["sessionid"].value) == (204, "")


def test_ninja(alice):
    own, token = a_page(alice)
    others = [browser(alice), browser(alice)]

    found = own.get("/sessions").json()
    assert [each["is_current"] for each in found] == [True, False, False]
    assert {each["user_id"] for each in found} == {str(alice.pk)}

    assert own.delete("/sessions").status_code == 403
    assert Client().get("/sessions").status_code == 401
    assert own.delete("/sessions/junk", **token).status_code == 404
    assert users.count_sessions(alice) == 3

    assert own.delete(f"/sessions/{found[1]['id']}", **token).json() == {"ended": 1}
    assert [is_signed_in(each) for each in others].count(True) == 1
    assert own.delete("/sessions", **token).json() == {"ended": 1}
    assert not any(map(is_signed_in, others))

    last = own.delete(f"/sessions/{found[0]['id']}", **token)
    assert (last.json(), last.cookies["sessionid"].value) == ({"ended": 1}, "")


def signed_in_by_allauth():
    client = Client()
    form = {"login": "alice", "password": PASSWORD}
    assert client.post("/accounts/login/", form).status_code == 302
    assert is_signed_in(client)
    return client


def test_allauth_signs_all_devices_out_after_a_password_reset(alice):
    own, other = signed_in_by_allauth(), signed_in_by_allauth()
    assert users.count_sessions(alice) == 2
    ended = []

    def note(reason, **kwargs):
        ended.append(reason)

    session_revoked.connect(note)
    try:
        client = Client()
        client.post("/accounts/password/reset/", {"email": "alice@example.com"})
        link = re.search(r"/accounts/password/reset/key/\S+", mail.outbox[0].body)[0]
        form = client.get(link).url
        done = client.post(form, {"password1": "staple 4711", "password2": "staple 4711"})
    finally:
        session_revoked.disconnect(note)

    assert done.status_code == 302
    assert ended == ["all", "all"]
    assert not is_signed_in(own)
    assert not is_signed_in(other)


def test_allauth_asks_for_the_password_before_others_end(alice):
    own, other = signed_in_by_allauth(), signed_in_by_allauth()
    session = own.session
    session["account_authentication_methods"][0]["at"] -= 3600
    session.save()

    asked = own.post("/others/")

    assert asked.status_code == 302
    assert "/accounts/reauthenticate/" in asked.url
    assert is_signed_in(other)

    own.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert own.post("/others/").json() == {"ended": 1}
    assert not is_signed_in(other)
    assert is_signed_in(own)


def test_allauth_asks_for_the_password_before_the_page_ends_others(alice, settings):
    record(settings, REAUTHENTICATE=None)
    other, own = browser(alice), Client()
    own.force_login(alice)  # allauth has not seen the password

    assert own.get("/account/sessions/").status_code == 200
    asked = own.post("/account/sessions/", {"others": "1"})
    assert "/accounts/reauthenticate/" in asked.url
    assert is_signed_in(other)

    own.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert own.post("/account/sessions/", {"others": "1"}).url == "/account/sessions/"
    assert not is_signed_in(other)
    assert is_signed_in(own)


@pytest.mark.parametrize("page", ["/page/", "/apage/"])
def test_axes_limits_the_passwords_that_the_page_takes(alice, settings, page):
    record(settings, REAUTHENTICATE=1e-9)
    settings.AXES_FAILURE_LIMIT = 2
    other, own = browser(alice, HTTP_X_REAL_IP="203.0.113.7"), Client(HTTP_X_REAL_IP="203.0.113.7")
    own.force_login(alice)

    def end(password):
        return own.post(page, {"others": "1", "password": password}).status_code

    assert [end("one"), end("two"), end(PASSWORD)] == [200, 429, 429]
    assert is_signed_in(other)


def test_axes(alice, settings):
    record(settings, ADDRESS="full", ADDRESS_FROM="axes.helpers.get_client_ip_address")
    alice.is_staff = True
    alice.save()
    client = Client(HTTP_X_REAL_IP="203.0.113.7")

    client.post("/admin/login/", {"username": "alice", "password": PASSWORD})

    assert is_signed_in(client)
    [found] = users.list_sessions(alice)
    assert found.address == "203.0.113.7"


def test_hijack(alice):
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    own, staff = browser(alice), browser(root)

    staff.post("/hijack/acquire/", {"user_pk": alice.pk})

    assert staff.session[SESSION_KEY] == str(alice.pk)
    assert users.count_sessions(root) == 0
    assert users.count_sessions(alice) == 1
    assert users.revoke_all_sessions(alice) == 1
    assert not is_signed_in(own)
    assert is_signed_in(staff)
    [stored] = collection().find({"user_id": str(alice.pk)})
    assert stored["impersonator_id"] == str(root.pk)
    again = browser(alice)
    assert b"on behalf of its owner" in staff.get("/page/").content
    staff.post("/page/", {"others": "1"})
    staff.post("/page/", {"all": "1"})
    assert is_signed_in(again)
    assert is_signed_in(staff)

    staff.post("/hijack/release/")

    assert staff.session[SESSION_KEY] == str(root.pk)
    assert users.count_sessions(root) == 1
