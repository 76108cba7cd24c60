import logging
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()  # before anything is imported that needs Django's apps

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.sessions.backends.base import UpdateError
from django.urls import path
from pymongo.errors import ConnectionFailure

from mysite.consumers import Counter
from mysite.sockets import SIGNED_OUT, SignedInConsumer

logger = logging.getLogger(__name__)


class CloseOnErrors:
    """Closes a socket, with a code of this site's own, instead of breaking it."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
            return
        except UpdateError:  # the session was deleted, such as by a sign-out
            code = SIGNED_OUT
        except ConnectionFailure as error:
            logger.error("MongoDB is down, so a socket was closed: %s", error)
            code = 4503
        await send({"type": "websocket.close", "code": code})


sockets = URLRouter(
    [
        path("counter/", Counter.as_asgi()),
        path("news/", SignedInConsumer.as_asgi()),
    ]
)
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": CloseOnErrors(AllowedHostsOriginValidator(AuthMiddlewareStack(sockets))),
    }
)
