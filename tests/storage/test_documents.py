import math
import re
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from django_mongo_sessions.storage import dates, documents

KEY = "abcdefghijklmnopqrstuvwxyz012345"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)


def test_the_id_is_a_scheme_byte_and_the_hash_of_the_key():
    assert documents.document_id(KEY) == b"\x01" + sha256(KEY.encode()).digest()


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        KEY * 4,
        KEY.upper(),
        str(UUID(int=1)),
        f"acme:{KEY}",
        "!#$%&'()*+-./:<=>?@[]^_`{|}~" * 2,
    ],
)
def test_a_key_is_what_a_cookie_can_hold_and_is_not_short(key):
    assert documents.document_id(key) == b"\x01" + sha256(key.encode()).digest()


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        KEY[:-1],
        KEY * 4 + "0",
        f'"{KEY}"',
        f"{KEY} {KEY}",
        f"{KEY},{KEY}",
        f"{KEY};{KEY}",
        f"{KEY}\\{KEY}",
        f"{KEY}\x7f",
        KEY[:-1] + "\n",
        KEY[:-1] + "\0",
        KEY[:-1] + "\N{ARABIC-INDIC DIGIT FIVE}",
        KEY[:-1] + "\ud800",
        "\U0001f36a" * 32,
        "x" * 1_000_000,
        '{"$ne": null}',
        {"$ne": None},
        KEY.encode(),
        [KEY],
        7,
    ],
    ids=lambda key: repr(key)[:20],
)
def test_a_key_that_cannot_be_ours_has_no_id(key):
    assert documents.document_id(key) is None


def test_bindings_differ_by_document_and_by_moment():
    earlier = NOW - timedelta(milliseconds=1)
    ids = [documents.document_id(KEY), documents.document_id(KEY[::-1])]

    bindings = {documents.binding(i, moment) for i in ids for moment in (NOW, earlier)}

    assert len(bindings) == 4
    assert {len(binding) for binding in bindings} == {41}


def test_now_is_aware_utc_in_whole_milliseconds():
    now = dates.utc_now()

    assert now.tzinfo is timezone.utc
    assert now.microsecond % 1000 == 0
    assert abs(datetime.now(timezone.utc) - now) < timedelta(minutes=1)


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo", "UTC"])
def test_a_naive_date_is_interpreted_in_the_time_zone_of_the_settings(settings, zone):
    settings.TIME_ZONE = zone

    assert dates.utc(datetime(2026, 7, 1, 12)) == datetime(2026, 7, 1, 12, tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize("hours", [-12, 0, 12])
def test_dates_at_the_limits_are_clamped(hours):
    zone = timezone(timedelta(hours=hours))

    latest = dates.utc(datetime.max.replace(tzinfo=zone))
    earliest = dates.utc(datetime.min.replace(tzinfo=zone))

    assert latest.year == 9999
    assert latest <= datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=timezone.utc)
    assert earliest.year == 1
    assert latest.tzinfo is earliest.tzinfo is timezone.utc


WRITE_ID = b"w" * 12


def document(**fields):
    return {
        "_id": documents.document_id(KEY),
        "payload": b"payload",
        "expires_at": NOW,
        "created_at": NOW,
        "seen_at": NOW,
        "revision": 3,
        "write_id": WRITE_ID,
        **fields,
    }


def test_a_document_is_read():
    assert documents.read(document()) == (b"payload", NOW, NOW, 3, WRITE_ID, {}, None, None, None)


def test_what_is_known_of_an_adoption_is_read_with_it():
    stored = documents.read(document(adopted=NOW, there_until="no date"))

    assert (stored.adopted, stored.there_until) == (NOW, None)


def test_what_is_recorded_of_a_client_is_read_with_it():
    recorded = {"auth_hash": b"0123456789abcdef", "address": "203.0.113.7"}

    assert documents.read(document(**recorded, account_id=7)).recorded == recorded


@pytest.mark.parametrize(
    ("seconds", "is_live"), [(-1, False), (0, False), (0.001, True), (None, True)]
)
def test_a_session_lives_until_its_expiry(seconds, is_live):
    """`read` refuses one whose date is not a date, so that its cookie stays."""
    expires_at = None if seconds is None else NOW + timedelta(seconds=seconds)
    document = {"_id": b"", "expires_at": expires_at}

    assert documents.live(document, NOW) == (document if is_live else None)
    assert documents.live(None, NOW) is None


@pytest.mark.parametrize("name", documents._FIELDS)
@pytest.mark.parametrize("wrong", [None, "text", True, 1.5, [], {}])
def test_a_field_that_is_missing_or_of_a_wrong_type_is_named(name, wrong):
    with pytest.raises(ValueError, match=name):
        documents.read(document(**{name: wrong}))
    lacking = document()
    del lacking[name]
    with pytest.raises(ValueError, match=name):
        documents.read(lacking)


@pytest.mark.parametrize("revision", [-1, -(2**63), 2**62 + 1, 2**63 - 1])
def test_a_revision_that_a_save_could_not_increase_is_refused(revision):
    with pytest.raises(ValueError, match="'revision' is out of range"):
        documents.read(document(revision=revision))


@pytest.mark.parametrize("length", [0, 11, 13])
def test_a_write_id_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match="'write_id' does not have 12 bytes"):
        documents.read(document(write_id=b"w" * length))


def test_no_two_writes_have_the_same_identity():
    assert len({documents.new_write_id() for _ in range(1000)}) == 1000


def test_a_marker_is_not_a_session():
    marker = documents.marker(b"id", WRITE_ID, NOW)

    assert documents.is_marker(marker)
    assert documents.live(marker, NOW) is None
    assert not documents.is_marker(document())
    assert not documents.is_marker({"_id": b"id"})


@pytest.mark.parametrize(("newer", "writes"), [(3, 0), (4, 1), (-1, math.inf), ("text", math.inf)])
def test_the_writes_since_a_revision_are_counted_if_that_is_possible(newer, writes):
    assert documents.writes_since(document(revision=newer), 3) == writes


def test_no_write_counts_once_the_session_was_deleted():
    assert documents.writes_since(documents.marker(b"id", WRITE_ID, NOW), 3) == 0


def test_a_tombstone_outlives_the_day_from_which_the_old_engine_is_not_asked():
    until = NOW + timedelta(days=30)

    tombstone = documents.marker(b"id", WRITE_ID, NOW, until=until)
    late = documents.marker(b"id", WRITE_ID, NOW, until=NOW - timedelta(days=2))

    assert documents.is_marker(tombstone)
    assert tombstone["expires_at"] == until + timedelta(days=1)
    assert late == documents.marker(b"id", WRITE_ID, NOW)


def test_extra_fields_are_set_and_none_unsets_them():
    fields = documents.derived({"_auth_user_id": 7}, {"account": "a", "plan": None})

    inserted = documents.new(b"id", WRITE_ID, b"payload", NOW, NOW, NOW, fields)
    update = documents.payload_update(WRITE_ID, 1, b"payload", NOW, NOW, fields)

    assert inserted["user_id"] == "7"
    assert inserted["account"] == "a"
    assert "plan" not in inserted
    assert update["$set"]["account"] == "a"
    assert update["$unset"] == {"plan": True}


def test_an_update_that_unsets_nothing_has_no_unset():
    # MongoDB before 5.0 refuses an empty one.
    fields = documents.derived({"_auth_user_id": "7"}, {})

    assert "$unset" not in documents.payload_update(WRITE_ID, 1, b"payload", NOW, NOW, fields)


@pytest.mark.parametrize(
    "name", ["_id", "payload", "revision", "write_id", "user_id", "", "$set", "a.b", "a\0b"]
)
def test_an_extra_field_with_an_impossible_name_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        documents.derived({}, {name: 1})


@pytest.mark.parametrize("name", ["write_id", "auth_hash"])
@pytest.mark.parametrize(
    ("given", "shown"), [(WRITE_ID, WRITE_ID.hex()), (None, None), ("text", "text")]
)
def test_an_identity_is_shown_as_text_and_anything_else_as_it_is(name, given, shown):
    assert documents.describe(document(**{name: given}))[name] == shown


def test_a_payload_that_is_none_is_shown_as_it_is():
    assert documents.describe(document(payload="text"))["payload"] == "text"
