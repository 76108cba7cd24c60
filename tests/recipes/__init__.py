"""What the tests of recipes share."""

from django.contrib.auth import SESSION_KEY
from django.test import Client

PASSWORD = "correct horse battery"
# Settings of a site whose MongoDB is down.
NOWHERE = {"URI": "mongodb://127.0.0.1:1", "TIMEOUT": 0.1}


def record(settings, **keys):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, **keys}


def browser(user, *, enforce_csrf_checks=False, **headers):
    """Return a client that is signed in, and has visited the site."""
    client = Client(enforce_csrf_checks, **headers)
    client.force_login(user)
    client.get("/hello/")
    return client


def is_signed_in(client):
    return SESSION_KEY in client.session


def a_page(user):
    """Return a browser whose requests are refused without a CSRF token, and the token."""
    client = browser(user, enforce_csrf_checks=True)
    token = client.get("/hello/").content.decode()
    return client, {"HTTP_X_CSRFTOKEN": token}
