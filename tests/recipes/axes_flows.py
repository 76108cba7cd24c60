"""A site with django-axes."""

import pytest
from django.test import Client

from django_mongo_sessions import users
from tests.recipes import PASSWORD, browser, is_signed_in, record

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


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
