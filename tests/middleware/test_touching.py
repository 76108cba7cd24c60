"""TOUCH_INTERVAL: a session that is read lives on."""

from datetime import timedelta

import pytest

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import dates
from tests.conftest import collection, count_sessions
from tests.middleware.helpers import (
    COOKIE,
    Elsewhere,
    a,
    age,
    delete_elsewhere,
    document,
    refused_key,
    stored_key,
)


def test_a_session_that_is_read_is_touched_once_per_interval(ask, hourly):
    key = stored_key()
    age(3601)
    before = document()

    response = ask(["_get_session"], key)

    after = document()
    assert after["seen_at"] > before["seen_at"]
    assert after["expires_at"] == after["seen_at"] + timedelta(days=14)
    assert {**after, "seen_at": 0, "expires_at": 0} == {**before, "seen_at": 0, "expires_at": 0}
    assert response.cookies[COOKIE].value == key
    assert response.cookies[COOKIE]["max-age"] == 14 * 24 * 3600
    assert response.headers["Vary"] == "Cookie"

    response = ask(["_get_session"], key)

    assert document() == after
    assert not response.cookies


@pytest.mark.parametrize("steps", [[], [503], ["_get_session", 503]])
def test_a_session_is_not_touched_if_it_is_not_read_or_the_view_fails(ask, hourly, steps):
    key = stored_key()
    age(3601)
    before = document()

    response = ask(steps, key)

    assert document() == before
    assert not response.cookies


def test_without_an_interval_nothing_is_touched(ask):
    key = stored_key()
    age(3601)

    assert not ask(["_get_session"], key).cookies


def test_a_session_that_does_not_open_is_not_touched(ask, hourly):
    key = refused_key()
    age(3601)
    before = document()

    response = ask(["_get_session"], key)

    assert document() == before
    assert not response.cookies


def test_the_page_of_a_session_that_is_gone_sets_no_cookie(ask, hourly):
    # A login in another tab has deleted it, and given the browser another cookie.
    key = stored_key()
    age(3601)

    response = ask(["_get_session", delete_elsewhere], key)

    assert response.status_code == 200
    assert not response.cookies
    assert count_sessions() == 0


def test_a_session_that_another_request_has_written_is_left_alone(ask, hourly):
    key = stored_key()
    age(3601)

    def set_expiry_elsewhere(session):
        other = SessionStore(key)
        other.set_expiry(60)
        other.save()

    response = ask(["_get_session", Elsewhere(set_expiry_elsewhere)], key)

    assert not response.cookies
    assert document()["expires_at"] <= dates.utc_now() + timedelta(seconds=60)


def test_a_touch_stores_no_unsaved_change(ask, hourly):
    key = stored_key()
    session = SessionStore(key)
    session["cart"] = []
    session.save()
    age(3601)

    ask(["_get_session", lambda session: session._session_cache["cart"].append(1)], key)

    assert SessionStore(key).load() == {"a": 1, "cart": []}
    assert document()["revision"] == 1


def test_a_touch_seals_anew_what_a_fallback_key_has_opened(ask, hourly, settings):
    key = stored_key()
    age(3601)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    ask(["_get_session"], key)

    settings.SECRET_KEY_FALLBACKS = []
    assert SessionStore(key).load() == {"a": 1}


def test_a_touch_that_seals_anew_derives_its_fields_from_what_is_stored(ask, hourly, settings):
    class Extended(SessionStore):
        def to_document(self, data):
            return {"a": data["a"]}

    key = stored_key()
    age(3601)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    def forget_to_say(session):
        session._session_cache["a"] = 2

    ask([a(Extended), "_get_session", forget_to_say], key)

    assert document()["revision"] == 1
    assert document()["a"] == 1


@pytest.fixture
def refusing(mongod_engine):
    """`refusing()` lets the server refuse what is written from then on."""

    def change(validator):
        sessions = collection()
        sessions.database.command("collMod", sessions.name, validator=validator)

    yield lambda: change({"none": "such"})
    change({})


def test_the_page_is_sent_even_if_the_touch_fails(ask, hourly, logged, refusing):
    key = stored_key()
    age(3601)
    before = document()

    refusing()

    response = ask(["_get_session"], key)

    assert response.status_code == 200
    assert not response.cookies
    assert document() == before
    [record] = logged()
    assert record.levelname == "WARNING"
    assert "could not be moved" in record.getMessage()


def test_the_cookie_follows_an_expiry_that_mutate_has_moved(ask, hourly):
    key = stored_key()
    age(3601)

    response = ask([("mutate", lambda data: data.update(a=2))], key)

    assert SessionStore(key).load() == {"a": 2}
    assert response.cookies[COOKIE].value == key


def test_a_save_in_the_view_does_not_delay_the_touch(ask, hourly):
    key = stored_key()
    age(3601)

    response = ask(["_get_session", "save"], key)

    assert response.cookies[COOKIE].value == key


def test_a_touch_sends_one_command(ask, hourly, commands):
    key = stored_key()
    age(3601)
    commands.names()

    ask(["_get_session"], key)

    assert [name for name in commands.names() if name != "endSessions"] == ["find", "update"]


def test_a_browser_length_session_stays_one(ask, hourly, settings):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
    key = stored_key()
    age(3601)

    response = ask(["_get_session"], key)

    assert response.cookies[COOKIE].value == key
    assert response.cookies[COOKIE]["max-age"] == ""


def test_an_error_in_a_touch_is_raised_and_not_taken_for_a_missing_session(ask, hourly, settings):
    class Wrong(SessionStore):
        def to_document(self, data):
            raise AttributeError("a project's own")

    key = stored_key()
    age(3601)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    with pytest.raises(AttributeError, match="a project's own"):
        ask([a(Wrong), "_get_session"], key)
