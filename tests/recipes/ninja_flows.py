"""A site with django-ninja."""

import pytest
from django.test import Client

from django_mongo_sessions import users
from tests.recipes import NOWHERE, a_page, browser, is_signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


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


def test_an_outage_is_a_503(alice, settings):
    own = browser(alice)
    own.raise_request_exception = False
    settings.MONGO_SESSIONS = NOWHERE

    refused = own.get("/sessions")

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
