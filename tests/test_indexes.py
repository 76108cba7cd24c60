"""The TTL index, created after a process's first insert."""

import logging

import pytest

from django_mongo_sessions import documents, indexes
from django_mongo_sessions.backends.mongodb import SessionStore
from tests.conftest import collection

NAME = documents.TTL_INDEX.name


@pytest.fixture
def no_index(do, monkeypatch):
    """As in a new process, on a collection without an index."""
    monkeypatch.setattr(indexes, "_ensured", set())


def test_the_first_insert_of_a_process_creates_the_index(do, no_index):
    do(SessionStore(), "save")

    index = collection().index_information()[NAME]
    assert [tuple(pair) for pair in index["key"]] == [("expires_at", 1)]
    assert index["expireAfterSeconds"] == 0


def test_the_second_insert_asks_nothing(do, no_index):
    do(SessionStore(), "save")
    collection().drop_index(NAME)

    do(SessionStore(), "save")

    assert NAME not in collection().index_information()


def test_an_index_that_is_there_is_left(do, no_index, logged):
    do(SessionStore(), "save")
    indexes._ensured.clear()

    do(SessionStore(), "save")

    assert not logged()


def test_an_index_of_another_name_that_does_the_same_is_enough(do, no_index, logged):
    collection().create_index([("expires_at", 1)], name="theirs", expireAfterSeconds=0)

    do(SessionStore(), "save")

    assert not logged()
    assert NAME not in collection().index_information()


def test_a_request_that_is_cancelled_leaves_it_to_the_next(do, no_index):
    cancelled = indexes.ensure_once()
    next(cancelled)
    cancelled.close()

    do(SessionStore(), "save")

    assert NAME in collection().index_information()


def test_a_large_collection_is_not_indexed_during_a_request(do, no_index, logged, monkeypatch):
    monkeypatch.setattr(indexes, "_MOST_DOCUMENTS", 2)
    collection().insert_many({"_id": n} for n in range(2))

    do(SessionStore(), "save")
    do(SessionStore(), "save")

    assert NAME not in collection().index_information()
    [record] = logged()
    assert (record.name, record.levelno) == ("django_mongo_sessions", logging.WARNING)
    assert "3 documents" in record.getMessage()
    assert f"createIndex({{expires_at: 1}}, {{name: '{NAME}'" in record.getMessage()


@pytest.mark.only("mongod")
def test_an_index_that_is_in_the_way_is_a_warning_and_no_error(do, no_index, logged):
    collection().create_index([("expires_at", 1)], name="by_date")
    store = SessionStore()

    do(store, "save")

    assert do(store, "exists", store.session_key)
    [record] = logged()
    assert "already exists" in record.getMessage()
