import pymongo
from django.http import HttpResponse
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore

SECONDS = 1
NO_SESSION = "0" * 32  # has the form of a session key, and is the key of no session


def alive(request):
    """Return whether the process responds. It does not depend on MongoDB."""
    return HttpResponse("alive")


def ready(request):
    """Return whether MongoDB replies when this process looks for a session."""
    try:
        with pymongo.timeout(SECONDS):
            SessionStore().exists(NO_SESSION)
    except PyMongoError as error:
        return HttpResponse(type(error).__name__, status=503)
    return HttpResponse("ready")


async def aready(request):
    """See ready()."""
    try:
        with pymongo.timeout(SECONDS):
            await SessionStore().aexists(NO_SESSION)
    except PyMongoError as error:
        return HttpResponse(type(error).__name__, status=503)
    return HttpResponse("ready")
