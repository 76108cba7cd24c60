"""A session as a document, without a server. What is stored and read back: test_verbs.py."""

from datetime import datetime, timezone

from django_mongo_sessions import documents
from django_mongo_sessions.mapper import SessionMapper
from django_mongo_sessions.snapshots import Content

KEY = "0123456789abcdefghijklmnopqrstuv"


def test_what_is_stored_is_what_is_read():
    session = SessionMapper()
    document_id = documents.stored_id(KEY)
    content = Content({"a": 1}, session._dump({"a": 1}))

    document, written = session._new(KEY, document_id, content, None)

    assert session._opened(KEY, document_id, document) == written


def test_an_expiry_past_every_calendar_is_the_last_date_that_there_is():
    data = {"_session_expiry": 10**12}

    document, _ = SessionMapper()._new(KEY, documents.stored_id(KEY), Content(data, b"{}"), None)

    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc)
    assert document["expires_at"] == last


def test_a_project_adds_no_fields_unless_it_says_so():
    assert SessionMapper().to_document({"a": 1}) == {}
