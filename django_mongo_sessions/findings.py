"""What the checks may say: one list of ids, whose page in the documentation is made from it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps
from django.core import checks

PATIENCE = 30  # seconds, after which gunicorn kills a worker that has not answered


class Finding(NamedTuple):
    """What a check may say; braces stand for what it found."""

    message: str
    hint: str


# One list, whose ids are never used again. The page of the documentation is made from it.
FINDINGS = {
    "E001": Finding("{problem}", "Set it to a dict; every key is optional."),
    "E002": Finding("MONGO_SESSIONS[{key!r}] {problem}.", "{remedy}"),
    "E003": Finding("MONGO_SESSIONS[{key!r}] {problem}.", "{remedy}"),
    "E004": Finding("{problem}", "Correct MONGO_SESSIONS['URI'] or ['CLIENT_OPTIONS']."),
    "E005": Finding(
        "The write concern is w=0, so that lost writes and sign-outs would go unnoticed.",
        "Remove w=0 from MONGO_SESSIONS['URI'] and ['CLIENT_OPTIONS'].",
    ),
    "E006": Finding(
        "The server is MongoDB {version}, older than 4.4, the oldest that is supported.",
        "Upgrade the server.",
    ),
    "E007": Finding("SESSION_SERIALIZER cannot be used: {problem}.", "Correct its dotted path."),
    "E008": Finding("{problem}", "Correct what MONGO_SESSIONS['CLIENT'] returns."),
    "E009": Finding(
        "MONGO_SESSIONS['TOUCH_INTERVAL'] is {interval} seconds, not below SESSION_COOKIE_AGE, "
        "{age}: sessions that are read end before they are touched.",
        "Set it to a fraction of SESSION_COOKIE_AGE.",
    ),
    "W001": Finding(
        "SESSION_SERIALIZER unpickles: whoever can write to the database and knows SECRET_KEY "
        "runs code on your servers.",
        'Use "django.contrib.sessions.serializers.JSONSerializer".',
    ),
    "W002": Finding(
        "MONGO_SESSIONS['URI'] is mongomock:// with DEBUG=False: each process keeps sessions of "
        "its own, and loses them when it ends.",
        "Name a MongoDB; mongomock is for tests.",
    ),
    "W003": Finding(
        "Neither MONGO_SESSIONS['DATABASE'] nor the URI names a database: another site on the "
        'server would share "django" with this one.',
        'Name one, as in {{"URI": "mongodb://…/mysite"}}.',
    ),
    "W004": Finding(
        "An operation may take {seconds:g} seconds, longer than a request may wait.",
        "Set MONGO_SESSIONS['TIMEOUT'], or the client's timeoutMS if it has one, well below "
        f"{PATIENCE} seconds, after which gunicorn kills the worker.",
    ),
    "W005": Finding(
        "'django_mongo_sessions' is not in INSTALLED_APPS: `migrate` creates no index, there is "
        "no command `mongosessions`, and the settings are not checked.",
        "Add 'django_mongo_sessions' to INSTALLED_APPS.",
    ),
    "W006": Finding(
        "'django.contrib.sessions' is not in INSTALLED_APPS: there is no command `clearsessions`.",
        "Add 'django.contrib.sessions' to INSTALLED_APPS.",
    ),
    "W007": Finding(
        "MONGO_SESSIONS has ASYNC_CLIENT and no CLIENT: blocking calls use the URI, which may "
        "lead to another server.",
        "Set CLIENT too.",
    ),
    "W008": Finding(
        "MONGO_SESSIONS['URI'] names a server that is not on this machine, without TLS: sessions "
        "can be read on the way.",
        "Add tls=true to the URI, where the server has TLS.",
    ),
    "W009": Finding("PyMongo ignores an option of the URI: {problem}", "Correct or remove it."),
    "W010": Finding("MongoDB does not answer: {problem}", "Start it, or correct MONGO_SESSIONS."),
    "W011": Finding(
        "The collection's index {name!r} is not right: {state}.",
        "Run `manage.py mongosessions indexes --apply`.",
    ),
    "W012": Finding(
        "MongoDB did not do what the engine asks of it: {problem}.",
        "Correct the user in MONGO_SESSIONS, or what it may do.",
    ),
    "W013": Finding(
        "SESSION_SERIALIZER makes different bytes of the same data: lists and dicts seem to have "
        "changed that have not, so that overlapping requests undo each other's changes to them.",
        "Let its dumps() depend on the data alone: no time, no random bytes.",
    ),
    "W014": Finding(
        "MONGO_SESSIONS['ASYNC'] is \"native\", but with CLIENT and no ASYNC_CLIENT every loop is "
        "served by threads.",
        "Set ASYNC_CLIENT too, or remove ASYNC.",
    ),
    "W015": Finding(
        "MONGO_SESSIONS['TOUCH_INTERVAL'] does nothing without this package's middleware.",
        "In MIDDLEWARE, put 'django_mongo_sessions.middleware.SessionMiddleware' in the place of "
        "Django's.",
    ),
}


def found(id: str, **facts: Any) -> checks.CheckMessage:
    """Return the message of an id, with what was found."""
    kind = checks.Error if id.startswith("E") else checks.Warning
    message, hint = (text.format(**facts) for text in FINDINGS[id])
    return kind(message, hint=hint, id=f"mongo_sessions.{id}")


def check_apps(**kwargs: Any) -> list[checks.CheckMessage]:
    """Ask for the apps that bring the commands and the checks.

    It is here because the engine binds it: where our app is missing, nothing else is bound. Then
    it is heard only on a site whose models import the engine: Django does so with the first
    request, long after `check`, `migrate` and `runserver` have checked. So the log says it, once
    per process, at the first use.
    """
    wanted = {"W005": "django_mongo_sessions", "W006": "django.contrib.sessions"}
    return [found(id) for id, app in wanted.items() if not apps.is_installed(app)]
