"""What replies mean."""

import pytest
from pymongo.results import DeleteResult, UpdateResult

from django_mongo_sessions.mongo import operations
from django_mongo_sessions.storage import dates


@pytest.mark.parametrize("count", [0, 1])
def test_a_write_returns_whether_it_matched(count):
    update = operations.update(b"id", 0, {})
    delete = operations.delete(b"id")

    assert update.read(UpdateResult({"n": count}, True)) is bool(count)
    assert delete.read(DeleteResult({"n": count}, True)) is bool(count)


def test_a_long_list_that_is_slow_does_not_count_as_an_outage():
    now = dates.utc_now()

    for operation in (
        operations.find_signed_in(None, now, 0, 100),
        operations.find_signed_in_by_index(now, 0, 100),
        operations.count_signed_in(None, 100),
    ):
        assert not operation.counts
