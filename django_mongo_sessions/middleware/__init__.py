"""The middleware: `MIDDLEWARE = [..., "django_mongo_sessions.middleware.SessionMiddleware"]`."""

from django_mongo_sessions.middleware.sessions import SessionMiddleware

__all__ = ["SessionMiddleware"]
