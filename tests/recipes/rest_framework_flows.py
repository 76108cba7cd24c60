"""A site with Django REST framework."""

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from pymongo.errors import AutoReconnect
from rest_framework.views import APIView

from django_mongo_sessions import users
from tests.recipes import NOWHERE, PASSWORD, a_page, browser, is_signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


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


def test_an_api_signs_in_and_out(alice):
    client = Client(enforce_csrf_checks=True)
    token = {"HTTP_X_CSRFTOKEN": client.get("/hello/").content.decode()}
    anonymous = client.session.session_key

    assert client.post("/session", {"username": "alice", "password": PASSWORD}).status_code == 403
    assert client.post("/session", {"username": "alice"}, **token).status_code == 403
    client.post("/session", {"username": "alice", "password": PASSWORD}, **token)
    assert is_signed_in(client)
    assert client.session.session_key != anonymous

    token = {"HTTP_X_CSRFTOKEN": client.get("/hello/").content.decode()}
    client.delete("/session", **token)
    assert not is_signed_in(client)
    assert users.count_sessions(alice) == 0


def test_an_outage_is_a_503_of_the_apis_own_form(alice, settings):
    own = browser(alice)
    settings.MONGO_SESSIONS = NOWHERE

    refused = own.get("/sessions")

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["detail"].endswith("try again in a moment.")
    assert not refused.cookies


class Rename(APIView):
    def post(self, request):
        User.objects.update(first_name="Alice")
        raise AutoReconnect("a connection broke")


def test_an_outage_undoes_what_the_request_has_stored(alice, rf, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    with transaction.atomic():  # as Django then calls a view
        assert Rename.as_view()(rf.post("/")).status_code == 503

    alice.refresh_from_db()
    assert alice.first_name == ""
