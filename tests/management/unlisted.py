"""An engine that keeps its sessions where nobody can list them."""

from django.contrib.sessions.backends.base import SessionBase


class SessionStore(SessionBase):
    """Nothing that the command could know."""
