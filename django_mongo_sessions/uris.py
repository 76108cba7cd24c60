"""What a MongoDB URI says, and what of it may be shown. No I/O happens here, and no DNS."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

MASK = "***"

_SECRET = re.compile(r"pass|pwd|token|secret|properties|encryption", re.IGNORECASE)


def options(uri: str) -> dict[str, str]:
    """Return the options of the URI's query, by the names that it gives them."""
    query = uri.partition("?")[2].replace(";", "&")
    return dict(parse_qsl(query, keep_blank_values=True))


def is_local(uri: str) -> bool:
    """Return whether all of the URI's servers are on this machine."""
    servers = re.split("[/?]", without_credentials(uri).partition("://")[2])[0].split(",")
    hosts = [re.sub(r":\d*$", "", server).strip("[]").lower() for server in servers]
    return all(
        host == "localhost" or host.endswith(".sock") or _is_loopback(host) for host in hosts
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def has_tls(uri: str, given: Mapping[str, Any]) -> bool:
    """Return whether the URI, or these options beside it, ask for TLS.

    A `mongodb+srv://` does unless it is told not to, and any option of TLS's does too.
    """
    named = {name.lower(): str(value).lower() for name, value in options(uri).items()}
    named.update({name.lower(): str(value).lower() for name, value in given.items()})
    switch = named.get("tls", named.get("ssl"))
    if switch is not None:
        return switch == "true"
    return uri.startswith("mongodb+srv://") or any(name.startswith("tls") for name in named)


def without_credentials(uri: str) -> str:
    """Return the URI without the user's name and password, however badly they are escaped."""
    scheme, _, rest = _split(uri)
    return scheme + rest


def masked(uri: str) -> str:
    """Return the URI as it may be shown: the password and secret options are asterisks."""
    scheme, credentials, rest = _split(uri)
    user, colon, _ = credentials.partition(":")
    address, mark, query = rest.partition("?")
    shown = [
        name + (f"={MASK}" if equals and _SECRET.search(name) else equals + value)
        for name, equals, value in (part.partition("=") for part in re.split("[&;]", query))
    ]
    user += colon and f":{MASK}"
    return scheme + user + (credentials and "@") + address + mark + "&".join(shown)


def _split(uri: str) -> tuple[str, str, str]:
    # At the last "@": what comes before it may be a part of a password.
    scheme, separator, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    credentials, _, rest = rest.rpartition("@")
    return scheme + separator, credentials, rest


def masked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client's options as they may be shown."""
    return {name: MASK if _SECRET.search(name) else value for name, value in given.items()}


def secrets(given: Mapping[str, Any]) -> list[str]:
    """Return the values, among a client's options, that may not be shown."""
    return [str(value) for name, value in given.items() if value and _SECRET.search(name)]
