"""A site with django-hijack."""

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User

from django_mongo_sessions import users
from tests.conftest import collection
from tests.recipes import PASSWORD, browser, is_signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


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
