"""The name of a session among those of its user."""

import re

import pytest
from pymongo.errors import OperationFailure

from django_mongo_sessions.engine import signed_in
from django_mongo_sessions.engine.signed_in import Found, UserSession, handle
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.storage import dates, documents

ID = documents.document_id("0123456789abcdefghijklmnopqrstuv")
OTHER_ID = documents.document_id("vutsrqponmlkjihgfedcba9876543210")
NOW = dates.utc_now()


def found(user_id="7", **fields):
    shown = UserSession("", user_id, NOW, NOW, NOW, None, None, None, False)
    return Found(**{"document_id": ID, "auth_hash": None, "shown": shown, **fields})


def test_a_handle_fits_into_a_url_and_a_form():
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", handle("7", ID, "key"))


def test_it_depends_on_the_user_the_session_and_the_key():
    handles = {
        handle("7", ID, "key"),
        handle("77", ID, "key"),
        handle("7", OTHER_ID, "key"),
        handle("7", ID, "another key"),
    }

    assert len(handles) == 4
    assert handle("7", ID, b"key") == handle("7", ID, "key")


def test_each_signing_key_names_a_session(settings):
    settings.SECRET_KEY = "new"
    settings.SECRET_KEY_FALLBACKS = ["old", "older"]

    for key in ("new", "old", "older"):
        assert signed_in.names(found(), handle("7", ID, key))
    for key in ("", "gone"):
        assert not signed_in.names(found(), handle("7", ID, key))


def test_a_lone_surrogate_is_no_question_mark_of_a_handle(settings):
    given = handle("7", ID, settings.SECRET_KEY)

    assert not signed_in.names(found(), given[:-1] + "\ud800")
    assert not signed_in.names(found(), given + "\ud800")


@pytest.mark.parametrize(
    ("auth_hash", "hashes", "is_stale"),
    [
        (b"one", {b"one", b"two"}, False),
        (b"three", {b"one", b"two"}, True),
        (b"three", set(), True),
        (b"three", None, False),
        (None, {b"one"}, False),
        (None, None, False),
    ],
)
def test_a_session_is_stale_if_its_hash_is_known_to_be_none_of_the_users(
    auth_hash, hashes, is_stale
):
    session = found(auth_hash=auth_hash)

    assert session.is_stale(hashes) is is_stale
    assert session.is_live(hashes) is not is_stale


def test_a_list_of_everybody_that_the_server_refuses_is_an_error(limited, allow):
    allow("update")

    with pytest.raises(OperationFailure, match="not authorized"):
        run(signed_in.find_signed_in(None, None))
