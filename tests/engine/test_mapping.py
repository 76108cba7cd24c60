"""A session as a document, without a server. test_fields.py stores one, and reads it back."""

from datetime import datetime, timezone

import pytest

from django_mongo_sessions.engine import mapping
from django_mongo_sessions.engine.session import Content, TrackedSession
from django_mongo_sessions.storage import codec, documents
from tests.engine.helpers import outcome

KEY = "0123456789abcdefghijklmnopqrstuv"
DOCUMENT_ID = documents.document_id(KEY)


def test_what_is_stored_is_what_is_read():
    session = TrackedSession()
    content = session._content({"a": 1})

    document, expected = outcome(mapping.new(session, KEY, DOCUMENT_ID, content, None))

    opened = outcome(mapping.opened(session, KEY, DOCUMENT_ID, document))
    assert opened == expected._replace(expires_at=opened.expires_at)  # known of own writes alone


@pytest.mark.parametrize(
    ("compress", "form"), [(0, codec.DEFLATED), (False, codec.PLAIN), (4096, codec.PLAIN)]
)
@pytest.mark.parametrize("later", [0, False])
def test_what_is_stored_opens_whatever_compress_says_later(settings, compress, form, later):
    session = TrackedSession()
    settings.MONGO_SESSIONS = {"COMPRESS": compress}
    document, expected = outcome(
        mapping.new(session, KEY, DOCUMENT_ID, session._content({"a": "x" * 100}), None)
    )
    settings.MONGO_SESSIONS = {"COMPRESS": later}

    opened = outcome(mapping.opened(session, KEY, DOCUMENT_ID, document))
    assert document["payload"][:1] == form
    assert opened == expected._replace(expires_at=opened.expires_at)


def test_an_expiry_past_every_calendar_is_the_last_date_that_there_is():
    content = Content({"_session_expiry": 10**12}, b"{}")

    document, _ = outcome(mapping.new(TrackedSession(), KEY, DOCUMENT_ID, content, None))

    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc)
    assert document["expires_at"] == last


def test_a_project_adds_no_fields_unless_it_says_so():
    assert TrackedSession().to_document({"a": 1}) == {}
