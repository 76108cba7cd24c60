from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import TransactionTestCase

from mysite.asgi import application


class SocketTests(TransactionTestCase):
    async def test_messages_are_counted_in_the_session(self):
        user = await User.objects.acreate_user("alice")
        await self.async_client.aforce_login(user)
        cookie = f"sessionid={self.async_client.cookies['sessionid'].value}"
        headers = [(b"origin", b"http://testserver"), (b"cookie", cookie.encode())]

        socket = WebsocketCommunicator(application, "/counter/", headers=headers)
        await socket.connect()
        await socket.send_json_to({})

        assert await socket.receive_json_from() == {"messages": 1}
        session = await self.async_client.asession()
        assert await session.aget("messages") == 1
        await socket.disconnect()
