from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver
from django.utils.crypto import salted_hmac

from django_mongo_sessions.signals import session_revoked
from django_mongo_sessions.users import id_of

SIGNED_OUT = 4401  # a code of this site's own


class SignedInConsumer(AsyncJsonWebsocketConsumer):
    """A socket that closes when the session ends that has opened it."""

    group = None

    async def connect(self):
        if self.scope["user"].is_anonymous:
            await self.close()
            return
        self.group = group_of(id_of(self.scope["user"]))
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.session_ended({})  # it may have ended before the socket was in the group

    async def disconnect(self, code):
        if self.group is not None:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def session_ended(self, event):
        """Close the socket if a session of the user's has ended, and it is this one."""
        session = self.scope["session"]
        signs_out = event.get("name") == name_of(session.session_key)
        if signs_out or not await session.aexists(session.session_key):
            await self.close(code=SIGNED_OUT)
            await self.disconnect(SIGNED_OUT)
            raise StopConsumer  # or the next message would close it again, which is an error


def group_of(user_id):
    return f"sessions.{user_id}"


def name_of(session_key):
    """Return what names a session in a message, and opens nothing."""
    return salted_hmac("mysite.sockets", session_key or "", algorithm="sha256").hexdigest()


@receiver(session_revoked)
async def close_sockets(session, **kwargs):
    await tell(session.user_id, {"type": "session.ended"})


@receiver(user_logged_out)
async def close_own_sockets(request, user, **kwargs):
    if request is not None and user is not None:
        # Django sends this signal before it ends the session, so the message has to name it.
        name = name_of(request.session.session_key)
        await tell(id_of(user), {"type": "session.ended", "name": name})


async def tell(user_id, message):
    await get_channel_layer().group_send(group_of(user_id), message)
