"""A site with django-allauth."""

import re

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from django.core import mail
from django.test import Client, RequestFactory

from django_mongo_sessions import users
from django_mongo_sessions.signals import session_revoked
from tests.recipes import NOWHERE, PASSWORD, browser, is_signed_in, record

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


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


def test_allauth_changes_the_password_and_ends_the_others(alice):
    own, other = signed_in_by_allauth(), signed_in_by_allauth()
    new = {"oldpassword": PASSWORD, "password1": "staple 4711", "password2": "staple 4711"}

    own.post("/accounts/password/change/", new)

    assert is_signed_in(own)
    assert not is_signed_in(other)  # its document is gone
    assert users.count_sessions(str(alice.pk)) == 1


def test_a_sign_in_counts_once_it_is_complete(alice):
    totp.TOTP.activate(alice, totp.generate_totp_secret())
    code = RecoveryCodes.activate(alice).get_unused_codes()[0]  # one that no clock ends
    client = Client()

    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    assert not is_signed_in(client)
    assert users.count_sessions(alice) == 0

    client.post("/accounts/2fa/authenticate/", {"code": code})
    assert is_signed_in(client)
    assert users.count_sessions(alice) == 1


def test_a_code_signs_in(alice):
    client = Client()

    client.post("/accounts/login/code/", {"email": alice.email})
    code = re.search(r"^[A-Z0-9]{3,}(-[A-Z0-9]+)?$", mail.outbox[0].body, re.MULTILINE)[0]
    client.post("/accounts/login/code/confirm/", {"code": code})

    assert is_signed_in(client)


def app(**headers):
    """Sign in as an app does that keeps no cookies; return its client."""
    form = {"username": "alice", "password": PASSWORD}
    response = Client(**headers).post(
        "/_allauth/app/v1/auth/login", form, content_type="application/json"
    )
    assert not response.cookies
    return Client(**headers, HTTP_X_SESSION_TOKEN=response.json()["meta"]["session_token"])


def test_the_token_of_an_app_is_a_session(alice, settings):
    record(settings, USER_AGENT=True)
    own, other = app(HTTP_USER_AGENT="MyApp/1.0"), signed_in_by_allauth()

    [current, _] = own.get("/api/sessions").json()
    assert (current["is_current"], current["device"]) == (True, "MyApp")
    ended = own.delete("/api/sessions")
    assert (ended.json(), len(ended.cookies)) == ({"ended": 1}, 0)
    assert not is_signed_in(other)

    assert own.get("/_allauth/app/v1/auth/session").status_code == 200
    users.revoke_all_sessions(alice)
    assert own.get("/_allauth/app/v1/auth/session").status_code == 410
    assert own.get("/api/sessions").status_code == 403


def test_an_outage_is_a_503_for_an_app(alice, settings):
    own = app()
    own.raise_request_exception = False
    settings.MONGO_SESSIONS = NOWHERE

    for url in ("/_allauth/app/v1/auth/session", "/api/sessions"):
        refused = own.get(url)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_the_list_of_allauth_and_ours_end_the_same_sessions(alice):
    first, second, third = [signed_in_by_allauth() for _ in range(3)]
    keys = {each.session.session_key for each in (first, second, third)}
    assert set(UserSession.objects.values_list("session_key", flat=True)) == keys

    request = RequestFactory().get("/")
    request.session, request.user = first.session, alice
    [_, newest, _] = users.list_sessions(alice, request=request)
    users.revoke_session(alice, newest.id)
    assert not is_signed_in(third)
    assert len(UserSession.objects.purge_and_list(alice)) == 2

    first.post("/accounts/sessions/")  # ends the others
    assert not is_signed_in(second)
    assert is_signed_in(first)
    assert users.count_sessions(alice) == 1
