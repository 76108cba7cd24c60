"""Settings of the demo and the tests. Never use them on a server that other machines can reach."""

import os

from testproject import STATE_DIR

SECRET_KEY = "the demo's key, known to everyone who reads this line"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", "testserver"]

# The two lines that this project is about.
SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
MONGO_SESSIONS = {
    "URI": os.environ.get("MONGODB_URI", "mongomock://"),
    "DATABASE": "django_mongo_sessions_demo",
    # For the list of a user's sessions.
    "USER_AGENT": True,
    "ADDRESS": "prefix",
    "TOUCH_INTERVAL": 60,
}
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
    "django.middleware.security.SecurityMiddleware",
    "django_mongo_sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
# Not in the session, so that the page shows only what its visitor has stored.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

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
