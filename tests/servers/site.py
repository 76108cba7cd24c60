"""A site whose one page writes a key of its own and appends to a shared list; settings and all.

The environment names the engine and the database, so that several processes serve the same.
"""

import os

from django.http import HttpResponse
from django.urls import path

SECRET_KEY = "a test's"
ROOT_URLCONF = "tests.servers.site"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SITE_SQLITE"],
        "OPTIONS": {"timeout": 60},
    }
}
SESSION_ENGINE = os.environ["SITE_ENGINE"]
MONGO_SESSIONS = {"URI": os.environ["SITE_URI"], "DATABASE": os.environ["SITE_DATABASE"]}


def visit(request, number):
    """Write before and after a change to the list that all share."""
    session = request.session
    session[f"before{number}"] = number
    if hasattr(session, "mutate"):
        session.mutate(lambda data: _append(data, number))
    else:
        _append(session, number)
    session[f"after{number}"] = number
    return HttpResponse("done")


async def avisit(request, number):
    """See visit()."""
    session = request.session
    await session.aset(f"before{number}", number)
    await session.amutate(lambda data: _append(data, number))
    await session.aset(f"after{number}", number)
    return HttpResponse("done")


def _append(data, number):
    data["visits"] = [*data.get("visits", []), number]


urlpatterns = [path("visit/<int:number>/", visit), path("avisit/<int:number>/", avisit)]
