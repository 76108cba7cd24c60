"""Every check message: id, text and hint. The page of checks in the docs is built from it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps
from django.core import checks

WORKER_TIMEOUT = 30  # seconds after which gunicorn kills a worker that has not replied


class Message(NamedTuple):
    """What a check may report; braces stand for the facts of the case."""

    message: str
    hint: str


# An id is never used again.
MESSAGES = {
    "E001": Message("{problem}", "Set it to a dict; every key is optional."),
    "E002": Message("MONGO_SESSIONS[{key!r}] {problem}.", "{remedy}"),
    "E003": Message("MONGO_SESSIONS[{key!r}] {problem}.", "{remedy}"),
    "E004": Message("{problem}", "Correct MONGO_SESSIONS['URI'] or ['CLIENT_OPTIONS']."),
    "E005": Message(
        "The write concern is w=0, so lost writes and lost sign-outs would go unnoticed.",
        "Remove w=0 from MONGO_SESSIONS['URI'] and ['CLIENT_OPTIONS'].",
    ),
    "E006": Message(
        "The server is MongoDB {version}; the oldest supported version is 4.4.",
        "Upgrade the server.",
    ),
    "E007": Message("SESSION_SERIALIZER cannot be used: {problem}.", "Correct the dotted path."),
    "E008": Message("{problem}", "Correct the callable in MONGO_SESSIONS['CLIENT']."),
    "E009": Message(
        "MONGO_SESSIONS['TOUCH_INTERVAL'] is {interval} seconds and SESSION_COOKIE_AGE is {age}: "
        "sessions that are only read expire before their expiry is moved.",
        "Set it to a fraction of SESSION_COOKIE_AGE.",
    ),
    "E010": Message(
        "SECRET_KEY_FALLBACKS contains an empty key. The session engine ignores it; Django's own "
        "signatures do not.",
        'Remove it. `"".split(",")` makes such a list, for example from an empty environment '
        "variable.",
    ),
    "E011": Message("{problem}", "Correct it, or leave the key out."),
    "E013": Message("{problem}", "Name the module that SESSION_ENGINE has named before."),
    "E014": Message(
        "{problem}", "Choose a day after which the last session of the old engine has ended."
    ),
    "E015": Message(
        "{problem}",
        "Install it, or remove ENCRYPTION_KEYS.",
    ),
    "E016": Message(
        "{problem}",
        "Correct MONGO_SESSIONS['ENCRYPTION_KEYS'], which is a list of keys, or a callable that "
        "returns one.",
    ),
    "E017": Message(
        "MONGO_SESSIONS has ENCRYPTION, but no ENCRYPTION_KEYS: no session can be stored.",
        "Set ENCRYPTION_KEYS, or remove ENCRYPTION.",
    ),
    "E018": Message(
        "Sessions are stored that these settings refuse, so their users would be signed out: "
        "{problem}.",
        "{remedy}",
    ),
    "E019": Message("{problem}", "Name the alias of a database of django-mongodb-backend."),
    "E020": Message("{problem}", "Correct that entry of DATABASES, or CLIENT_OPTIONS."),
    "E021": Message(
        "SESSION_ENGINE is {name!r}, which cannot be used: {problem}",
        "Correct the dotted path, or the module that it names. The path of this engine is "
        '"django_mongo_sessions.backends.mongodb".',
    ),
    "E022": Message(
        "MONGO_SESSIONS[{key!r}] needs mongomock, which is not installed.",
        "Run `python -m pip install mongomock`, or use a MongoDB server.",
    ),
    "W001": Message(
        "SESSION_SERIALIZER unpickles: anyone who can write to the database and knows SECRET_KEY "
        "can run code on your servers.",
        'Use "django.contrib.sessions.serializers.JSONSerializer".',
    ),
    "W002": Message(
        "MONGO_SESSIONS['URI'] is mongomock:// with DEBUG=False: each process has its own "
        "sessions, and they are lost when it ends.",
        "Use a MongoDB server; mongomock is for tests.",
    ),
    "W003": Message(
        "Neither MONGO_SESSIONS['DATABASE'] nor the URI names a database: another site on the "
        'server may use the same default, "django".',
        'Name one, as in {{"URI": "mongodb://…/mysite"}}.',
    ),
    "W004": Message(
        "An operation may take {seconds:g} seconds, which is longer than a request may take.",
        "Set MONGO_SESSIONS['TIMEOUT'], or the client's timeoutMS if it has one, well below "
        f"{WORKER_TIMEOUT} seconds, after which gunicorn kills the worker.",
    ),
    "W005": Message(
        "'django_mongo_sessions' is not in INSTALLED_APPS: `migrate` creates no index, the command "
        "`mongosessions` is missing, and the settings are not checked.",
        "Add 'django_mongo_sessions' to INSTALLED_APPS.",
    ),
    "W006": Message(
        "'django.contrib.sessions' is not in INSTALLED_APPS: the command `clearsessions` is "
        "missing.",
        "Add 'django.contrib.sessions' to INSTALLED_APPS.",
    ),
    "W007": Message(
        "MONGO_SESSIONS has ASYNC_CLIENT but no CLIENT: blocking calls use the URI, which may be "
        "another server.",
        "Set CLIENT too.",
    ),
    "W008": Message(
        "MONGO_SESSIONS['URI'] connects to another machine without TLS: sessions can be read on "
        "the network.",
        "Enable TLS on the server, and add tls=true to the URI.",
    ),
    "W009": Message("PyMongo ignores an option of the URI: {problem}", "Correct or remove it."),
    "W010": Message(
        "Sessions cannot be reached: {problem}", "Start MongoDB, or correct MONGO_SESSIONS."
    ),
    "W011": Message(
        "The collection's index {name!r} is wrong: {state}.",
        "Run `manage.py mongosessions indexes --apply`.",
    ),
    "W012": Message(
        "MongoDB rejected a command that the session engine needs: {problem}.",
        "Correct the user in MONGO_SESSIONS, or grant it the privileges that the engine needs.",
    ),
    "W013": Message(
        "SESSION_SERIALIZER returns different bytes for the same data, or for data that it has "
        "loaded: values appear to have changed when they have not, so overlapping requests undo "
        "each other's changes.",
        "Make its dumps() depend only on the data, and not on the time or on random bytes, and its "
        "loads() return what was dumped.",
    ),
    "W014": Message(
        "MONGO_SESSIONS['ASYNC'] is \"native\", but with CLIENT and without ASYNC_CLIENT threads "
        "serve every event loop.",
        "Set ASYNC_CLIENT too, or remove ASYNC.",
    ),
    "W015": Message(
        "MONGO_SESSIONS['TOUCH_INTERVAL'] has no effect without this package's middleware.",
        "In MIDDLEWARE, replace Django's SessionMiddleware with "
        "'django_mongo_sessions.middleware.SessionMiddleware'.",
    ),
    "W016": Message(
        "The table {table!r} in the database {alias!r} has rows. They are old sessions of another "
        "engine: code that uses the model `Session` finds these, and none of the current ones.",
        "Look for `Session.objects` and `get_decoded()` in your code. Then empty the table. If you "
        "keep it, in order to go back, silence this warning.",
    ),
    "W017": Message(
        "Without this package's middleware, MONGO_SESSIONS[{key!r}] has an effect only when a user "
        "signs in.",
        "In MIDDLEWARE, replace Django's SessionMiddleware with "
        "'django_mongo_sessions.middleware.SessionMiddleware'.",
    ),
    "W019": Message(
        "MONGO_SESSIONS['PREDECESSOR_UNTIL'] is {days:,} days ahead. Until then, the old engine is "
        "asked for every session that is not found, and sign-outs stay stored.",
        "Choose an earlier day: the sessions of the old engine end by themselves.",
    ),
    "W020": Message(
        "MONGO_SESSIONS['PREDECESSOR_UNTIL'] is over: the old engine is not asked any more.",
        "Remove the keys that begin with PREDECESSOR from MONGO_SESSIONS.",
    ),
    "W021": Message(
        "The engine in MONGO_SESSIONS['PREDECESSOR'] hides the errors of its cache: while that is "
        "down, users whose sessions were not adopted yet are signed out.",
        "Watch the cache for as long as the engine is named there.",
    ),
    "W022": Message(
        "The app of the engine in MONGO_SESSIONS['PREDECESSOR'] is not installed: {problem}",
        "Leave its app in INSTALLED_APPS for as long as the engine is named there.",
    ),
    "W023": Message(
        "MONGO_SESSIONS['ENCRYPTION'] is \"{mode}\": sessions that are not encrypted open, so "
        "anyone who can write to the database and knows SECRET_KEY can make one up.",
        'Once `manage.py mongosessions encrypt` has run, set it to "only".',
    ),
    "W024": Message(
        "MONGO_SESSIONS['COMPRESS'] is set, and sessions are encrypted: their length tells "
        "something about what they hold.",
        "Remove COMPRESS.",
    ),
    "W025": Message(
        "Sessions are encrypted with keys that ENCRYPTION_KEYS does not have: {ids}.",
        "Add the keys again until `manage.py mongosessions status` counts no session of theirs, or "
        "run `manage.py mongosessions encrypt --sign-out-others`.",
    ),
    "W026": Message(
        "MONGO_SESSIONS['URI'] is not used, because DATABASE_ALIAS names the database.",
        "Remove one of them.",
    ),
    "W027": Message(
        "SESSION_ENGINE is {name!r}{default}, which does not use MONGO_SESSIONS: sessions are not "
        "stored in MongoDB.",
        'Set it to "django_mongo_sessions.backends.mongodb".',
    ),
    "W028": Message(
        "MONGO_SESSIONS['URI'] has a password: Django shows the URI on its error page with "
        "DEBUG=True, and in its mails to ADMINS.",
        "Django masks the password if it stands by itself, as in "
        '{{"CLIENT_OPTIONS": {{"username": …, "password": os.environ["MONGO_PASSWORD"]}}}}.',
    ),
}


def message(id: str, **facts: Any) -> checks.CheckMessage:
    """Return the check message of an id, with the facts of the case."""
    kind = checks.Error if id.startswith("E") else checks.Warning
    text, hint = (part.format(**facts) for part in MESSAGES[id])
    return kind(text, hint=hint, id=f"mongo_sessions.{id}")


def check_apps(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the apps with the commands and the checks are installed.

    The engine registers it, since nothing else is registered if our app is missing. But unless the
    site's models import the engine, Django does so with the first request, long after `check`,
    `migrate` and `runserver` have run the checks. So the engine logs W005 too, once per process.
    """
    needed = {"W005": "django_mongo_sessions", "W006": "django.contrib.sessions"}
    return [message(id) for id, app in needed.items() if not apps.is_installed(app)]
