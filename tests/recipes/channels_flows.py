"""A site with Channels."""

import sys
from functools import wraps

import pytest
from asgiref.sync import async_to_sync
from channels.testing import WebsocketCommunicator
from django.test import AsyncClient

from django_mongo_sessions import users
from docs.recipes import channels_consumers, channels_sockets
from tests.recipes import NOWHERE

# Where the recipes of the page say that they are.
sys.modules["mysite.consumers"] = channels_consumers
sys.modules["mysite.sockets"] = channels_sockets
from docs.recipes import channels_asgi  # noqa: E402

sys.modules["mysite.asgi"] = channels_asgi
from docs.recipes.channels_tests import SocketTests  # noqa: E402, F401  # pytest runs it
from docs.recipes.channels_users import UserMiddlewareStack  # noqa: E402

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("mongod_engine")]


def awaited(test):
    @wraps(test)
    def run(**fixtures):
        async_to_sync(test)(**fixtures)

    return run


def socket(client, path, application=channels_asgi.application):
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    headers = [(b"origin", b"http://testserver"), (b"cookie", cookie.encode())]
    return WebsocketCommunicator(application, path, headers=headers)


async def browser(user):
    client = AsyncClient()
    await client.aforce_login(user)
    return client


@awaited
async def test_a_socket_closes_with_its_session(alice):
    browsers = [await browser(alice) for _ in range(3)]
    sockets = [socket(each, "/news/") for each in browsers]
    assert [await each.connect() for each in sockets] == [(True, None)] * 3

    [newest, *_] = await users.alist_sessions(alice)
    await users.arevoke_session(alice, newest.id)
    assert await code_of(sockets[2]) == 4401
    assert await sockets[0].receive_nothing()

    await browsers[0].post("/out/")
    assert await code_of(sockets[0]) == 4401
    assert await sockets[1].receive_nothing()
    for each in sockets:
        await each.disconnect()


@awaited
async def test_no_socket_stays_open_without_a_session(alice):
    client = await browser(alice)
    anonymous, late = socket(client, "/news/"), socket(client, "/news/")
    late.scope["session"] = await client.asession()
    late.scope["user"] = alice
    await users.arevoke_all_sessions(alice)

    assert not (await anonymous.connect())[0]
    assert (await late.connect())[0]  # the session has ended since it was loaded
    assert await code_of(late) == 4401


@awaited
async def test_a_socket_closes_once_when_all_sessions_end(alice):
    browsers = [await browser(alice) for _ in range(3)]
    news = socket(browsers[0], "/news/")
    await news.connect()

    await users.arevoke_all_sessions(alice)  # which sends a message about each of them
    assert await code_of(news) == 4401
    await news.wait(timeout=30)

    assert await news.receive_nothing()


@awaited
async def test_other_requests_and_a_socket_lose_nothing(alice):
    client = await browser(alice)
    counter = socket(client, "/counter/")
    await counter.connect()
    for expected in (1, 2):
        session = await client.asession()
        await session.aset(f"page {expected}", "visited")
        await session.asave()
        await counter.send_json_to({})
        assert await counter.receive_json_from() == {"messages": expected}

    session = await client.asession()
    assert await session.aget("messages") == 2
    assert {"page 1", "page 2"} <= set(await session.akeys())

    await session.aflush()
    await counter.send_json_to({})
    assert await code_of(counter) == 4401


@awaited
async def test_an_outage_closes_a_socket(alice, settings, caplog):
    client = await browser(alice)
    counter = socket(client, "/counter/")
    await counter.connect()
    settings.MONGO_SESSIONS = NOWHERE

    await counter.send_json_to({})
    assert await code_of(counter) == 4503
    assert await socket(client, "/counter/").connect() == (False, 4503)
    assert len(caplog.records) == 2


@awaited
async def test_a_new_SECRET_KEY_signs_nobody_out(alice, settings):
    client = await browser(alice)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another key"
    application = UserMiddlewareStack(channels_sockets.SignedInConsumer.as_asgi())

    opened = socket(client, "/", application)
    assert (await opened.connect())[0]
    assert await users.acount_sessions(alice) == 1
    await opened.disconnect()

    alice.set_password("staple 4711")
    await alice.asave()
    assert not (await socket(client, "/", application).connect())[0]


async def code_of(socket):
    """Return the code with which a socket is closed."""
    return (await socket.receive_output(timeout=30))["code"]
