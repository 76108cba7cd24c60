"""What replies mean."""

import pytest
from pymongo.results import DeleteResult, UpdateResult

from django_mongo_sessions.mongo import operations


@pytest.mark.parametrize("count", [0, 1])
def test_a_write_returns_whether_it_matched(count):
    update = operations.update(b"id", 0, {})
    delete = operations.delete(b"id")

    assert update.read(UpdateResult({"n": count}, True)) is bool(count)
    assert delete.read(DeleteResult({"n": count}, True)) is bool(count)
