"""The site for servers that take the name of an application."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
