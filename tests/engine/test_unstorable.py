"""What cannot be stored, or is nearly too large."""

import pytest
from pymongo.errors import DocumentTooLarge

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import mapping
from django_mongo_sessions.storage import codec
from tests.engine.helpers import loaded, the_document


def test_a_value_that_cannot_be_serialized_is_named_and_nothing_is_written(do, stored):
    store = stored(a=1)
    before = the_document()
    store["cart"] = {1, 2}

    with pytest.raises(TypeError, match="'cart'"):
        do(store, "save")

    assert the_document() == before


@pytest.fixture
def small_limits(monkeypatch):
    """Reduce the limits to a hundredth: the size itself does not matter."""
    monkeypatch.setattr(codec, "MAX_BODY", codec.MAX_BODY // 100)
    monkeypatch.setattr(mapping, "LARGE_BODY", mapping.LARGE_BODY // 100)


def test_a_session_that_is_too_large_is_not_sent(do, stored, random_text, small_limits):
    store = stored(small=1)
    before = the_document()
    store["large"], store["huge"] = random_text(10_000), random_text(240_000)

    with pytest.raises(DocumentTooLarge, match=r"2\d\d,\d{3} bytes.*'huge' \(240,0.*'large'"):
        do(store, "save")

    assert the_document() == before


def test_a_large_session_is_stored_with_a_warning(do, stored, logged, random_text, small_limits):
    store = stored(large=random_text(20_000))

    [record] = logged()
    assert record.name == "django_mongo_sessions"
    assert "'large'" in record.getMessage()
    assert len(loaded(do, store)["large"]) == 20_000


def test_the_limits_are_a_megabyte_and_what_mongodb_accepts(mongod_engine, logged, random_text):
    store = SessionStore()
    store["large"] = random_text(2_000_000)
    store.save()
    assert len(logged()) == 1
    assert len(SessionStore(store.session_key)["large"]) == 2_000_000
    store["huge"] = random_text(20_000_000)

    with pytest.raises(DocumentTooLarge, match=r"22,\d{3},\d{3} bytes.*'huge' \(20,000,0"):
        store.save()
