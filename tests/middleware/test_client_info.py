"""What is recorded of a client: its `User-Agent`, and its address."""

import gc
import logging
import weakref

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from django_mongo_sessions.middleware import SessionMiddleware, client_info
from django_mongo_sessions.middleware.client_info import ClientInfo, forwarded
from tests.conftest import collection

SECRET = "S3CRET"


def a_request(**meta):
    request = RequestFactory().get("/")
    request.META.update(meta)
    return request


# The User-Agent


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("  MyApp/1.0  ", "MyApp/1.0"),
        ("", None),
        ("   ", None),
        (None, None),
        ("\0\x1b\x7f", None),
        ("a\0b", "a b"),
        ("a\r\nb", "a b"),
        ("a\x1b[2J\x07b", "a [2J b"),
        ("a\x9b31mb", "a 31mb"),  # the same escape in one character
        ("a\ud800\udfffb", "a b"),
        ("\udcff", None),
        ("Größe/1 日本 🦊", "Größe/1 日本 🦊"),
        ("x" * 512, "x" * 512),
        ("x" * 100_000, "x" * 512),
        ("\0" * 100_000, None),
        ("🦊" * 100_000, "🦊" * 512),
    ],
)
def test_a_user_agent_is_cut_and_cleaned(given, stored):
    request = a_request(HTTP_USER_AGENT=given)

    assert client_info.user_agent(request) == stored


def test_a_request_without_a_user_agent_has_none():
    request = a_request()
    request.META.pop("HTTP_USER_AGENT", None)

    assert client_info.user_agent(request) is None


@pytest.mark.parametrize("given", ["x" * 100_000, "🦊" * 600, "a\0b\ud800c\x1b[2J"])
def test_whatever_a_user_agent_is_it_can_be_stored(engine, given):
    stored = client_info.user_agent(a_request(HTTP_USER_AGENT=given))

    collection().insert_one({"user_agent": stored})

    assert collection().find_one({})["user_agent"] == stored
    assert stored.isprintable()


# The address


ADDRESSES = [
    ("203.0.113.7", "203.0.113.7", "203.0.113.0/24"),
    (" 203.0.113.7 ", "203.0.113.7", "203.0.113.0/24"),
    ("203.0.113.7:4711", "203.0.113.7", "203.0.113.0/24"),
    ("2001:DB8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
    ("2001:db8::7", "2001:db8::7", "2001:db8::/48"),
    ("[2001:db8::7]", "2001:db8::7", "2001:db8::/48"),
    ("[2001:db8::7]:4711", "2001:db8::7", "2001:db8::/48"),
    ("fe80::1%eth0", "fe80::1", "fe80::/48"),
    ("[fe80::1%25eth0]:80", "fe80::1", "fe80::/48"),
    ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.0/24"),
    ("[::ffff:cb00:7107]:80", "203.0.113.7", "203.0.113.0/24"),
    ("::1", "::1", "::/48"),
]
JUNK = [
    "",
    " ",
    "unknown",
    "_hidden",
    "localhost",
    "unix:",
    "203.0.113",
    "203.0.113.7.8",
    "203.0.113.256",
    "203.0.113.7:port",
    "203.0.113.7, 198.51.100.1",
    "[203.0.113.7",
    "[]:80",
    "%eth0",
    "2001:db8::7::",
    "\0",
    "\ud800",
    "\u0661.\u0661.\u0661.\u0661",
    "1" * 100_000,
    "[" * 100_000,
    "1.1.1.1:" + "1" * 100_000 + "x",
]


def recorded(settings, request, **given):
    settings.MONGO_SESSIONS = {"ADDRESS": "full", **given}
    return client_info.address(request)


@pytest.mark.parametrize(("given", "full", "prefix"), ADDRESSES)
def test_an_address_is_recorded_in_full_or_as_its_network(settings, given, full, prefix):
    request = a_request(REMOTE_ADDR=given)

    assert recorded(settings, request, ADDRESS="full") == full
    assert recorded(settings, request, ADDRESS="prefix") == prefix


@pytest.mark.parametrize("given", JUNK)
def test_what_is_no_address_is_not_recorded(settings, logged, given):
    request = a_request(REMOTE_ADDR=given)

    for kind in ("full", "prefix"):
        assert recorded(settings, request, ADDRESS=kind) is None
    assert not logged()


def test_a_request_of_a_server_that_tells_no_address_has_none(settings):
    request = a_request()
    del request.META["REMOTE_ADDR"]

    assert recorded(settings, request) is None


def of_header(request):
    return request.headers["X-Real-IP"]


def test_a_site_may_say_where_the_address_is(settings):
    request = a_request(HTTP_X_REAL_IP="198.51.100.1")
    path = f"{__name__}.of_header"

    assert recorded(settings, request, ADDRESS_FROM=of_header) == "198.51.100.1"
    assert recorded(settings, request, ADDRESS_FROM=path) == "198.51.100.1"


@pytest.mark.parametrize("given", [None, 7, b"203.0.113.7", ["203.0.113.7"], object()])
def test_what_is_no_text_is_no_address(settings, logged, given):
    assert recorded(settings, a_request(), ADDRESS_FROM=lambda request: given) is None
    assert not logged()


def fails(request):
    raise ValueError(f"{request.META['REMOTE_ADDR']} is no {SECRET}")


def test_what_address_from_raises_is_logged_without_its_text(settings, logged):
    request = a_request(REMOTE_ADDR=SECRET)

    assert recorded(settings, request, ADDRESS_FROM=fails) is None

    [record] = logged()
    assert record.levelno == logging.WARNING
    assert "ADDRESS_FROM has raised ValueError" in record.getMessage()
    assert __file__ in record.getMessage()
    assert SECRET not in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("path", ["no.such.function", f"{__name__}.SECRET"])
def test_an_address_from_that_cannot_be_used_is_logged(settings, logged, path):
    assert recorded(settings, a_request(), ADDRESS_FROM=path) is None

    [record] = logged()
    assert "MONGO_SESSIONS['ADDRESS_FROM']" in record.getMessage()


# Behind proxies


@pytest.mark.parametrize(
    ("proxies", "header", "found"),
    [
        (1, "203.0.113.7", "203.0.113.7"),
        (1, "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        (1, "6.6.6.6,7.7.7.7 ,203.0.113.7 ", "203.0.113.7"),
        (2, "203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (2, "6.6.6.6, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (2, "203.0.113.7", None),  # it did not come through both
        (3, "203.0.113.7, 10.0.0.1", None),
        (1, "", None),
        (1, ",", None),
        (1, "6.6.6.6,", None),
        (1, "203.0.113.7, unknown", None),
        (1, "[2001:db8::7]:4711", "2001:db8::7"),
    ],
)
def test_the_entry_of_the_sites_own_proxies_counts(settings, proxies, header, found):
    request = a_request(HTTP_X_FORWARDED_FOR=header, REMOTE_ADDR="10.0.0.9")

    assert recorded(settings, request, ADDRESS_FROM=forwarded(proxies)) == found


def test_without_the_header_the_address_is_not_known(settings):
    assert recorded(settings, a_request(), ADDRESS_FROM=forwarded()) is None


@pytest.mark.parametrize("proxies", [0, -1])
def test_less_than_one_proxy_is_refused(proxies):
    with pytest.raises(ValueError, match="at least one proxy"):
        forwarded(proxies=proxies)


# What a session knows of its request


def test_nothing_is_known_unless_the_site_wants_it(settings):
    request = a_request(HTTP_USER_AGENT="MyApp/1", REMOTE_ADDR="203.0.113.7")
    client = ClientInfo(request)

    settings.MONGO_SESSIONS = {}
    assert client.describe() == {}
    settings.MONGO_SESSIONS = {"USER_AGENT": True}
    assert client.describe() == {"user_agent": "MyApp/1"}
    settings.MONGO_SESSIONS = {"ADDRESS": "prefix"}
    assert client.describe() == {"address": "203.0.113.0/24"}


def test_without_its_request_a_client_is_not_known(settings):
    settings.MONGO_SESSIONS = {"USER_AGENT": True, "ADDRESS": "full"}
    client = ClientInfo(a_request())

    assert client.request is None
    assert client.describe() == {}


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_request_ends_with_its_response(engine, settings, no_garbage_collection):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "USER_AGENT": True, "ADDRESS": "full"}

    def view(request):
        request.session["a"] = 1
        return HttpResponse()

    request = a_request(HTTP_USER_AGENT="MyApp/1")
    response = SessionMiddleware(view)(request)
    session, alive = request.session, weakref.ref(request)
    del request

    assert response.status_code == 200
    assert collection().find_one({})["user_agent"] == "MyApp/1"
    assert alive() is None
    assert session._client.request is None
