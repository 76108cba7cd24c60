"""The site that the servers serve; settings and all.

The environment names the engine and the database, so that several processes serve the same.
"""

import asyncio
import os

from django.http import HttpResponse
from django.urls import path

from django_mongo_sessions.connection import clients

SECRET_KEY = "a test's"
ROOT_URLCONF = "tests.servers.site"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = [
    os.environ.get("SITE_MIDDLEWARE", "django_mongo_sessions.middleware.SessionMiddleware")
]
SESSION_ENGINE = os.environ["SITE_ENGINE"]
MONGO_SESSIONS = {
    "URI": os.environ["SITE_URI"],
    "DATABASE": os.environ["SITE_DATABASE"],
    "ASYNC": os.environ.get("SITE_ASYNC", "auto"),
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SITE_SQLITE"],
        "OPTIONS": {"timeout": 60},
    }
}
if "SITE_POSTGRESQL" in os.environ:
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["SITE_POSTGRESQL"],
        "NAME": "postgres",
        "USER": "postgres",
        "OPTIONS": {"pool": True} if "SITE_POOL" in os.environ else {},
    }


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


async def count(request):
    """Read a number from the session, and write the next one."""
    visits = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", visits)
    return HttpResponse(visits)


async def slowly(request):
    """Take a while between reading and writing, and let the server's log say so."""
    visits = await request.session.aget("visits", 0) + 1
    print("A slow request is under way.", flush=True)
    await asyncio.sleep(1)
    await request.session.aset("visits", visits)
    return HttpResponse(visits)


async def whose(request):
    """Return which process responds, and whether its loop has a client of its own."""
    reach = await clients.acollection()
    return HttpResponse(f"{os.getpid()} {'threads' if reach is None else 'native'}")


urlpatterns = [
    path("visit/<int:number>/", visit),
    path("avisit/<int:number>/", avisit),
    path("count/", count),
    path("slowly/", slowly),
    path("whose/", whose),
]
