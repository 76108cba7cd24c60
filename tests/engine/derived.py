"""An engine that a site has derived from ours."""

from django_mongo_sessions.backends import mongodb


class SessionStore(mongodb.SessionStore):
    pass
