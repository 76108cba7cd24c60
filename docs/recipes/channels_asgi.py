import logging
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()  # before anything is imported that needs Django's apps

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path
from pymongo.errors import ConnectionFailure

from mysite.consumers import Counter
from mysite.sockets import SignedInConsumer

logger = logging.getLogger(__name__)


class CloseInOutage:
    """Closes a socket, instead of breaking it with an error, if MongoDB is down."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except ConnectionFailure as error:
            logger.error("A socket was closed: %s", error)
            await send({"type": "websocket.close", "code": 4503})  # a code of this site's own


sockets = URLRouter(
    [
        path("counter/", Counter.as_asgi()),
        path("news/", SignedInConsumer.as_asgi()),
    ]
)
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": CloseInOutage(AllowedHostsOriginValidator(AuthMiddlewareStack(sockets))),
    }
)
