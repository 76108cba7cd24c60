"""What cannot be stored, or is nearly too large."""

import pytest
from pymongo.errors import DocumentTooLarge

from tests.engine.helpers import loaded, the_document


def test_a_value_that_cannot_be_serialized_is_named_and_nothing_is_written(do, stored):
    store = stored(a=1)
    before = the_document()
    store["cart"] = {1, 2}

    with pytest.raises(TypeError, match="'cart'"):
        do(store, "save")

    assert the_document() == before


def test_a_session_that_is_too_large_is_not_sent(do, stored, random_text):
    store = stored(small=1)
    before = the_document()
    store["large"], store["huge"] = random_text(1_000_000), random_text(24_000_000)

    with pytest.raises(
        DocumentTooLarge, match=r"2\d,\d{3},\d{3} bytes.*'huge' \(24,000,0.*'large'"
    ):
        do(store, "save")

    assert the_document() == before


def test_a_large_session_is_stored_with_a_warning(do, stored, logged, random_text):
    store = stored(large=random_text(2_000_000))

    [record] = logged()
    assert record.name == "django_mongo_sessions"
    assert "'large'" in record.getMessage()
    assert len(loaded(do, store)["large"]) == 2_000_000
