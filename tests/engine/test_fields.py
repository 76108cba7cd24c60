"""The fields of the stored document."""

from datetime import timedelta

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import documents
from tests.conftest import count_sessions
from tests.engine.helpers import the_document


def test_the_document_has_exactly_these_fields(do, stored):
    store = stored(book="Sherlock Holmes")

    document = the_document()

    assert document["_id"] == documents.document_id(store.session_key)
    assert isinstance(document["payload"], bytes)
    assert document["revision"] == 0
    assert document["created_at"] == document["seen_at"]
    age = document["expires_at"] - document["created_at"]
    assert age == timedelta(seconds=store.get_session_cookie_age())
    assert set(document) == {
        "_id",
        "payload",
        "expires_at",
        "created_at",
        "seen_at",
        "revision",
        "write_id",
    }


def test_the_user_id_is_stored_and_removed(do, stored):
    store = stored(_auth_user_id=7)
    assert the_document()["user_id"] == "7"

    del store["_auth_user_id"]
    do(store, "save")
    assert "user_id" not in the_document()


def test_a_project_may_add_fields(do, stored):
    class Accounts(SessionStore):
        def to_document(self, data):
            return {"account_id": data.get("account")}

    store = stored(Accounts, account=7)
    assert the_document()["account_id"] == 7

    del store["account"]
    do(store, "save")
    assert "account_id" not in the_document()


def test_a_projects_field_cannot_have_the_name_of_one_of_ours(do, stored):
    class Wrong(SessionStore):
        def to_document(self, data):
            return {"revision": 7}

    with pytest.raises(ValueError, match="'revision'"):
        stored(Wrong)

    assert count_sessions() == 0
