"""Messages in a cookie: in the session, the page would show them as its data."""

from __future__ import annotations

from django.contrib.messages.storage.cookie import CookieStorage


class Messages(CookieStorage):
    """Django's, in a cookie with a name of its own."""

    cookie_name = "mongo_sessions_demo_messages"
