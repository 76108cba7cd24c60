"""The site. It reads a session before the server forks its workers."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django_mongo_sessions.backends.mongodb import SessionStore  # noqa: E402
from tests.chaos.site import connections  # noqa: E402

SessionStore("b2" * 16).load()
connections.leave_to_children()
