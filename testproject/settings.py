"""Settings of the demo and the tests. Never use them on a server that other machines can reach."""

import os

from testproject import STATE_DIR
from testproject.overriding import Overridable
from testproject.watching import Listener

SECRET_KEY = "the demo's key, known to everyone who reads this line"
MONGODB_URI = os.environ.get("MONGODB_URI", "mongomock://")
# With a server, as on a live site: Django would show a page of its own in place of 503.html. Then
# `manage.py runserver` needs --insecure to serve the style sheet.
DEBUG = MONGODB_URI == "mongomock://"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", "testserver"]

# The two lines that this project is about.
SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
MONGO_SESSIONS = Overridable(  # for the page's experiments; a site of yours has a dict here
    {
        "URI": MONGODB_URI,
        "DATABASE": "django_mongo_sessions_demo",
        # For the list of a user's sessions.
        "USER_AGENT": True,
        "ADDRESS": "prefix",
        "TOUCH_INTERVAL": 60,
        # So that the page can show what each action sends.
        "CLIENT_OPTIONS": {"event_listeners": [Listener()]},
        "COALESCE": False,
        # Shows sooner that MongoDB is down.
        "TIMEOUT": 2,
    }
)
# A browser sends the cookies of 127.0.0.1 to every port of it. With Django's own names, the demo
# would sign its visitor out of another site there.
SESSION_COOKIE_NAME = "mongo_sessions_demo"
CSRF_COOKIE_NAME = "mongo_sessions_demo_csrf"
LANGUAGE_COOKIE_NAME = "mongo_sessions_demo_language"
MESSAGE_STORAGE = "testproject.messages.Messages"

# The address of the documentation, with a slash at the end. Until it is published, the site serves
# the files in docs/ as they are.
DOCS = ""

LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "index"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "testproject",  # its base_sessions.html comes before the package's
    "django_mongo_sessions",
]
MIDDLEWARE = [
    "testproject.watching.watch",
    "django.middleware.security.SecurityMiddleware",
    "django_mongo_sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "testproject.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "static/"

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": STATE_DIR / "db.sqlite3"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "console": {"class": "logging.StreamHandler"},
        "page": {"class": "testproject.watching.Handler"},
    },
    # What says that a document does not open: on the console, and on the page.
    "loggers": {"django.security.SuspiciousSession": {"handlers": ["console", "page"]}},
}
