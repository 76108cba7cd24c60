"""`make demo ARGS=moving-in`: the engine is switched, and nobody is signed out.

A browser signs in while the sessions are in Django's table. Then the site's engine is switched, and
the same browser comes again.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from django.urls import reverse

from django_mongo_sessions.backends.mongodb import SessionStore

OLD = "django.contrib.sessions.backends.db"
NEW = "django_mongo_sessions.backends.mongodb"


def show(say: Any = print) -> None:
    """Go through it, step by step, and tell what each engine holds."""
    until = (date.today() + timedelta(days=30)).isoformat()
    say(f"1. SESSION_ENGINE is {OLD}. A browser signs in as demo.")
    with override_settings(SESSION_ENGINE=OLD):
        browser = _browser()
        browser.post(reverse("admin:login"), {"username": "demo", "password": "demo"})
        cookie = browser.cookies[settings.SESSION_COOKIE_NAME].value
        row = Session.objects.get(pk=cookie)
        _tell(say, cookie, browser)
    say(f"2. SESSION_ENGINE is {NEW}, PREDECESSOR is {OLD}. The browser comes again.")
    keys = {**settings.MONGO_SESSIONS, "PREDECESSOR": OLD, "PREDECESSOR_UNTIL": until}
    with override_settings(SESSION_ENGINE=NEW, MONGO_SESSIONS=keys):
        browser = _browser(cookie)
        _tell(say, cookie, browser)
        say("3. It signs out.")
        browser.post(reverse("admin:logout"))
        _tell(say, cookie, browser)
        say("4. The row comes back, as from a backup, and somebody has kept the cookie.")
        row.save(force_insert=True)
        _tell(say, cookie, _browser(cookie))
        row.delete()


def _browser(cookie: str | None = None) -> Client:
    """Return a new browser, which meets the settings of this moment."""
    browser = Client()
    if cookie is not None:
        browser.cookies[settings.SESSION_COOKIE_NAME] = cookie
    return browser


def _tell(say: Any, cookie: str, browser: Client) -> None:
    is_signed_in = browser.get(reverse("admin:index")).status_code == 200
    in_table = Session.objects.filter(pk=cookie).exists()
    in_mongodb = SessionStore(cookie).describe() is not None
    say(f"   signed in: {_yes(is_signed_in)}")
    say(f"   in the table django_session: {_yes(in_table)}; in MongoDB: {_yes(in_mongodb)}")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
