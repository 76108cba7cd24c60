from types import SimpleNamespace

from channels.auth import AuthMiddleware
from channels.sessions import SessionMiddlewareStack
from django.contrib.auth import aget_user
from django.contrib.sessions.backends import signed_cookies


class UserMiddleware(AuthMiddleware):
    """Finds the user as Django does in a request, and changes nothing in the session."""

    async def resolve_scope(self, scope):
        copy = signed_cookies.SessionStore()  # it stores nothing, whatever Django does to it
        copy.update(await scope["session"].aitems())
        scope["user"]._wrapped = await aget_user(SimpleNamespace(session=copy))


def UserMiddlewareStack(inner):
    return SessionMiddlewareStack(UserMiddleware(inner))
