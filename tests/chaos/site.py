"""The site that is served while something breaks.

It is the site of the servers' tests, with the further settings of SITE_SETTINGS.
"""

import json
import os

from asgiref.sync import iscoroutinefunction
from django.contrib.auth import SESSION_KEY
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from pymongo.monitoring import CommandListener

from tests.servers.site import *  # noqa: F403
from tests.servers.site import MIDDLEWARE, MONGO_SESSIONS

ROOT_URLCONF = "tests.chaos.site"
MIDDLEWARE = [*MIDDLEWARE, "tests.chaos.site.early"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                ("django.template.loaders.locmem.Loader", {"503.html": "The site's own page."})
            ]
        },
    }
]
LOGGING_CONFIG = None  # an outage would log thousands of tracebacks


class Connections(CommandListener):
    """The ids of the server connections on which this process has sent commands."""

    def __init__(self):
        self.seen, self.inherited = set(), []

    def leave_to_children(self):
        """Prepare for a fork: no child may use these connections."""
        self.seen, self.inherited = set(), sorted(self.seen)

    def report(self, **facts):
        """Return these facts about this process, with its id and its connections."""
        by = {"by": sorted(self.seen), "inherited": self.inherited}
        return {"process": os.getpid(), **by, **facts}

    def started(self, event):
        self.seen.add(event.server_connection_id)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


connections = Connections()
MONGO_SESSIONS = {
    **MONGO_SESSIONS,
    "CLIENT_OPTIONS": {"event_listeners": [connections]},
    **json.loads(os.environ.get("SITE_SETTINGS", "{}")),
}


@sync_and_async_middleware
def early(get_response):
    """Use the session in a middleware, before the view does."""

    def middleware(request):
        if request.path == "/early/":
            request.session.get(SESSION_KEY)
        return get_response(request)

    async def amiddleware(request):
        if request.path == "/async/early/":
            await request.session.aget(SESSION_KEY)
        return await get_response(request)

    return amiddleware if iscoroutinefunction(get_response) else middleware


def plain(request):
    """Do not use the session."""
    return HttpResponse("plain")


def sign_in(request):
    """Sign in, as a login does."""
    request.session.cycle_key()
    request.session[SESSION_KEY] = "7"
    return HttpResponse("signed in")


def sign_out(request):
    """Sign out, as a logout does."""
    request.session.flush()
    return HttpResponse("signed out")


def note(request, number):
    """Append a number to the session; return 401 if nobody is signed in."""
    session = request.session
    if SESSION_KEY not in session:
        return HttpResponse(status=401)
    session["notes"] = [*session.get("notes", []), number]
    return HttpResponse("noted")


def basket(request, number):
    """Store a number, even if nobody is signed in."""
    request.session["basket"] = number
    return HttpResponse("kept")


def kept(request):
    """Return the stored number."""
    return HttpResponse(str(request.session.get("basket")))


def notes(request):
    """Return the stored numbers, and the user."""
    session = request.session
    return JsonResponse({"user": session.get(SESSION_KEY), "notes": session.get("notes", [])})


def whose(request):
    """Return the id of this process, the stored number, and the connections it was read on."""
    basket = request.session.get("basket")
    return JsonResponse(connections.report(basket=basket))


async def asign_in(request):
    """See sign_in()."""
    await request.session.acycle_key()
    await request.session.aset(SESSION_KEY, "7")
    return HttpResponse("signed in")


async def asign_out(request):
    """See sign_out()."""
    await request.session.aflush()
    return HttpResponse("signed out")


async def anote(request, number):
    """See note()."""
    session = request.session
    if not await session.ahas_key(SESSION_KEY):
        return HttpResponse(status=401)
    await session.aset("notes", [*await session.aget("notes", []), number])
    return HttpResponse("noted")


async def abasket(request, number):
    """See basket()."""
    await request.session.aset("basket", number)
    return HttpResponse("kept")


async def akept(request):
    """See kept()."""
    return HttpResponse(str(await request.session.aget("basket")))


async def anotes(request):
    """See notes()."""
    session = request.session
    user = await session.aget(SESSION_KEY)
    return JsonResponse({"user": user, "notes": await session.aget("notes", [])})


async def aplain(request):
    """See plain()."""
    return HttpResponse("plain")


# Views of an asynchronous server are below /async/.
urlpatterns = [
    path("plain/", plain),
    path("early/", plain),
    path("sign-in/", sign_in),
    path("sign-out/", sign_out),
    path("note/<int:number>/", note),
    path("basket/<int:number>/", basket),
    path("basket/", kept),
    path("notes/", notes),
    path("whose/", whose),
    path("async/plain/", aplain),
    path("async/early/", aplain),
    path("async/sign-in/", asign_in),
    path("async/sign-out/", asign_out),
    path("async/note/<int:number>/", anote),
    path("async/basket/<int:number>/", abasket),
    path("async/basket/", akept),
    path("async/notes/", anotes),
]
