"""When a session expires."""

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.sessions.backends.base import UpdateError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.storage import dates, documents
from tests.conftest import collection
from tests.engine.helpers import the_document, visit


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo"])
@pytest.mark.parametrize("form", ["seconds", "zero", "none", "timedelta", "datetime", "iso"])
def test_expiry_in_every_form_is_stored_as_aware_utc(do, settings, use_tz, zone, form):
    from django.utils import timezone as django_timezone

    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    later = django_timezone.now() + timedelta(hours=1)
    forms = {"seconds": 3600, "zero": 0, "none": None, "timedelta": timedelta(hours=1)}
    forms |= {"datetime": later, "iso": later.isoformat()}
    seconds = 3600 if form not in ("zero", "none") else settings.SESSION_COOKIE_AGE
    store = SessionStore()
    store.set_expiry(forms[form])

    do(store, "save")

    left = the_document()["expires_at"] - datetime.now(timezone.utc)
    assert abs(left - timedelta(seconds=seconds)) < timedelta(seconds=30)
    assert do(store, "exists", store.session_key)


@pytest.mark.parametrize(
    ("expiry", "year"),
    [(10**12, 9999), (10**30, 9999), (float("inf"), 9999), (-(10**12), 1), (-(10**30), 1)],
)
def test_an_expiry_past_all_dates_is_clamped(do, expiry, year):
    store = SessionStore()
    store.set_expiry(expiry)

    do(store, "save")

    assert the_document()["expires_at"].year == year


def test_a_subclass_may_set_the_age_of_its_sessions(do, stored):
    class Short(SessionStore):
        def get_session_cookie_age(self):
            return 60

    stored(Short)

    assert the_document()["expires_at"] - the_document()["created_at"] == timedelta(minutes=1)


def expires_in(store):
    [document] = collection().find({"_id": documents.document_id(store.session_key)})
    return document["expires_at"] - dates.utc_now()


def test_a_poll_does_not_undo_an_expiry_that_was_set_in_the_meantime(do, two, held):
    poll, other = two(a=1)
    other.set_expiry(60)
    do(other, "save")

    do(poll, "save")

    assert held(poll) == {"a": 1, "_session_expiry": 60}
    assert expires_in(poll) < timedelta(seconds=61)
    assert poll.get_expiry_age() == 60


@pytest.mark.parametrize("lost_a_race", [True, False])
def test_a_session_that_expired_in_the_meantime_lives_on_unless_a_race_was_lost(
    do, two, held, lost_a_race
):
    store, other = two(a=1)
    if lost_a_race:
        do(other, "mutate", visit)
    collection().update_many({}, {"$set": {"expires_at": dates.utc_now() - timedelta(1)}})
    store["b"] = 2

    if lost_a_race:
        with pytest.raises(UpdateError):
            do(store, "save")
    else:
        do(store, "save")
        assert held(store) == {"a": 1, "b": 2}


def test_expiry_is_merged_like_any_key_and_the_document_follows(do, two, held):
    earlier, later = two(a=1)
    earlier.set_expiry(60)
    do(earlier, "save")
    later["b"] = 2

    do(later, "save")

    assert held(later) == {"a": 1, "b": 2, "_session_expiry": 60}
    assert expires_in(later) < timedelta(seconds=61)
