from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.translation import override

from django_mongo_sessions.templatetags.mongo_sessions import ago


@pytest.mark.parametrize(
    ("age", "language", "text"),
    [
        (timedelta(seconds=-5), "en", "just now"),  # by the clock of another host
        (timedelta(seconds=59), "en", "just now"),
        (timedelta(minutes=1), "en", "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "en", "59 minutes ago"),
        (timedelta(hours=1), "en", "1 hour ago"),
        (timedelta(hours=23, minutes=59), "en", "23 hours ago"),
        (timedelta(days=1), "en", "1 day ago"),
        (timedelta(days=400), "en", "400 days ago"),
        (timedelta(days=2), "de", "vor 2 Tagen"),
        (timedelta(days=2), "ar", "منذ يومين"),
        (timedelta(days=5), "ar", "منذ 5 أيام"),
        (timedelta(hours=3), "ja", "3 時間前"),
        (timedelta(days=5), "nl", "5 days ago"),  # as the rest of the page
    ],
)
def test_ago(age, language, text):
    with override(language):
        assert ago(timezone.now() - age - timedelta(milliseconds=1)) == text
