"""How long a session lives, even if it is used all the time: ABSOLUTE_AGE."""

from datetime import timedelta

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import dates
from tests.conftest import SESSIONS, collection

AGE = timedelta(hours=12)


@pytest.fixture
def absolute(settings):
    """Set ABSOLUTE_AGE, and keep the collection."""

    def absolute(seconds):
        # In place, without Django's signal, which would empty a mongomock.
        settings.MONGO_SESSIONS["ABSOLUTE_AGE"] = seconds

    return absolute


@pytest.fixture(autouse=True)
def twelve_hours(engine, absolute):
    absolute(AGE.total_seconds())


def document():
    [stored] = collection().find(SESSIONS)
    return stored


def began():
    return document()["created_at"]


def wait_for_another_millisecond():
    now = dates.utc_now()
    while dates.utc_now() == now:
        pass


def again(session):
    return SessionStore(session.session_key)


def test_a_session_ends_at_its_absolute_age_whenever_it_is_saved(do, stored):
    session = stored(a=1)
    end = began() + AGE
    assert document()["expires_at"] == end

    for change in ({"a": 2}, {}):
        wait_for_another_millisecond()
        session = again(session)
        do(session, "_get_session")
        session.update(change)
        session._forget_last_write()
        do(session, "save")

        assert document()["expires_at"] == end
    assert document()["revision"] == 1


def test_a_session_may_end_sooner_than_its_absolute_age(do):
    session = SessionStore()
    session.set_expiry(60)
    do(session, "save")

    assert document()["expires_at"] <= dates.utc_now() + timedelta(seconds=60)


def test_a_session_past_its_age_is_not_read_and_a_save_does_not_prolong_it(do, stored, absolute):
    absolute(1e-9)
    session = stored(a=1)
    assert not do(session, "exists", session.session_key)
    session["a"] = 2

    do(session, "save")

    assert do(again(session), "load") == {}


def test_an_age_past_the_last_date_is_no_limit(do, stored, absolute):
    absolute(1e300)

    stored(a=1)

    assert document()["expires_at"] < began() + timedelta(days=15)


def test_a_new_key_does_not_prolong_it(do, stored):
    session = stored(a=1, **{SESSION_KEY: "7"})
    begin = began()
    wait_for_another_millisecond()
    session = again(session)

    do(session, "cycle_key")

    assert began() == begin
    assert document()["expires_at"] == begin + AGE
    assert do(again(session), "load")["a"] == 1


def test_a_new_key_of_an_anonymous_session_does_not_prolong_it_either(do, stored):
    session = stored(a=1)
    begin = began()
    wait_for_another_millisecond()

    do(session, "cycle_key")

    assert began() == begin


@pytest.mark.parametrize("sign_in_first", [True, False])
def test_a_sign_in_begins_a_new_session(do, stored, sign_in_first):
    session = again(stored(a=1))
    begin = began()
    wait_for_another_millisecond()
    do(session, "_get_session")
    user = {SESSION_KEY: "7", BACKEND_SESSION_KEY: "a.backend", HASH_SESSION_KEY: "a hash"}
    steps = [lambda: do(session, "cycle_key"), lambda: session.update(user)]

    for step in reversed(steps) if sign_in_first else steps:
        step()
    assert do(session, "get_expiry_age") > AGE.total_seconds() - 2
    do(session, "save")

    assert began() > begin
    assert document()["expires_at"] == began() + AGE
    assert do(again(session), "load") == {"a": 1, **user}  # the seal has the new moment too


def test_later_saves_of_a_signed_in_session_do_not_prolong_it(do, stored):
    session = stored(a=1)
    do(session, "cycle_key")
    session[SESSION_KEY] = "7"
    do(session, "save")
    begin = began()
    wait_for_another_millisecond()

    session["a"] = 2
    do(session, "save")

    assert began() == begin


def test_a_new_session_begins_after_flush(do, stored):
    session = stored(a=1)
    begin = began()
    wait_for_another_millisecond()
    do(session, "flush")
    session["a"] = 2

    do(session, "save")

    assert began() > begin


def test_the_session_says_when_it_ends(do, stored, absolute):
    session = again(stored(a=1))
    absolute(60)

    assert 58 <= do(session, "get_expiry_age") <= 60
    assert do(session, "get_expiry_date") == began() + timedelta(seconds=60)


def test_without_time_zones_the_date_is_naive_and_local(do, stored, absolute, settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "America/Chicago"
    session = again(stored(a=1))
    absolute(60)

    date = do(session, "get_expiry_date")

    assert date.tzinfo is None
    assert dates.utc(date) == began() + timedelta(seconds=60)


def test_a_hypothetical_expiry_is_computed_without_a_read(do):
    session = SessionStore("0123456789abcdefghijklmnopqrstuv")
    now = dates.utc_now()
    week = timedelta(days=7).total_seconds()

    assert do(session, "get_expiry_age", modification=now, expiry=week) == week
    assert do(session, "get_expiry_date", modification=now, expiry=week) == now + timedelta(days=7)
    assert not hasattr(session, "_session_cache")


def test_a_new_key_keeps_when_it_began_without_the_setting_too(do, stored, absolute):
    absolute(None)
    session = stored(a=1)
    begin = began()
    wait_for_another_millisecond()

    do(session, "cycle_key")

    assert began() == begin


def test_without_the_setting_expiry_is_djangos(do, stored, absolute):
    absolute(None)
    session = again(stored(a=1))
    session.set_expiry(10**8)

    assert do(session, "get_expiry_age") == 10**8


def test_create_does_not_prolong_it(do, stored):
    session = stored(a=1, **{SESSION_KEY: "7"})
    begin = began()
    wait_for_another_millisecond()

    do(session, "create")

    assert {stored["created_at"] for stored in collection().find(SESSIONS)} == {begin}
