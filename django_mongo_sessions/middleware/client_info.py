"""Who has sent a request: its address and its `User-Agent`, if the site wants them recorded."""

from __future__ import annotations

import logging
import re
import traceback
import weakref
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from django_mongo_sessions.conf import conf

MAX_USER_AGENT = 512  # characters
_PREFIXES = {4: 24, 6: 48}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]+")
# "203.0.113.7:4711" and "[2001:db8::7]:4711", as some proxies write an address.
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|(\d+(?:\.\d+){3}):\d+")

logger = logging.getLogger("django_mongo_sessions")


class ClientInfo:
    """The client of a request. Nothing is looked at before a session is stored.

    The request has the session, so a strong reference back would be a cycle: both would stay in
    memory until the garbage collector runs.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = weakref.ref(request)

    @property
    def request(self) -> HttpRequest | None:
        """The request, while it lives."""
        return self._request()

    def describe(self) -> dict[str, str | None]:
        """Return the `user_agent` and the `address`, each None if it is not known."""
        request = self.request
        if request is None:
            return {}
        known: dict[str, str | None] = {}
        if conf.USER_AGENT:
            known["user_agent"] = user_agent(request)
        if conf.ADDRESS is not None:
            known["address"] = address(request)
        return known


def user_agent(request: HttpRequest) -> str | None:
    """Return the `User-Agent` of a request, cut to 512 characters, without control characters."""
    given = str(request.META.get("HTTP_USER_AGENT") or "")[:MAX_USER_AGENT]
    return _UNPRINTABLE.sub(" ", given).strip() or None


def address(request: HttpRequest) -> str | None:
    """Return the address of the client, or its network, as ADDRESS says; None if it is not known.

    Never raises: what ADDRESS_FROM raises is logged, and what is no address is None.
    """
    try:
        function = remote_address if conf.ADDRESS_FROM is None else conf.function("ADDRESS_FROM")
        given = function(request)
    except ImproperlyConfigured as error:
        logger.warning("The client's address is not recorded. %s", error)
        return None
    except Exception as error:
        # Where it was raised, and not its text, which may quote the request.
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.warning(
            "The client's address is not recorded. ADDRESS_FROM has raised %s in %s, line %s.",
            type(error).__name__,
            place.filename,
            place.lineno,
        )
        return None
    found = _parsed(given) if isinstance(given, str) else None
    if found is None:
        return None
    if conf.ADDRESS == "full":
        return str(found)
    return str(ip_network((found, _PREFIXES[found.version]), strict=False))


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip()
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port[1] or with_port[2]
    try:
        found = ip_address(text.partition("%")[0])  # a zone means nothing elsewhere
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def remote_address(request: HttpRequest) -> str | None:
    """Return the address that the request came from: behind a proxy, the proxy's."""
    given: str | None = request.META.get("REMOTE_ADDR")
    return given


def forwarded(proxies: int = 1) -> Callable[[HttpRequest], str | None]:
    """Return a function for ADDRESS_FROM, for a site behind that many proxies of its own.

    Each proxy appends the address that it was called from to `X-Forwarded-For`. So the entry to
    trust is counted from the right, and what is left of it is the client's own word. It is None if
    the header has fewer entries. Raises ValueError for less than one proxy.
    """
    if proxies < 1:
        raise ValueError(f"forwarded() needs at least one proxy, not {proxies}")

    def client_address(request: HttpRequest) -> str | None:
        entries = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        return entries[-proxies].strip() if len(entries) >= proxies else None

    return client_address
