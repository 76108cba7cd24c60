"""Django sessions in MongoDB: `SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"`."""

from django_mongo_sessions.exceptions import ServerUnavailable, SessionConflict

__all__ = ["ServerUnavailable", "SessionConflict"]
__version__ = "0.9.0"
