"""What a MongoDB URI says, and what of it may be shown. No DNS query is made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

MASK = "***"

_SECRET = re.compile(r"pass|pwd|token|secret|properties|encryption", re.IGNORECASE)
# The names of authMechanismProperties, which are no secrets.
_PROPERTIES = {
    *("AWS_SESSION_TOKEN", "CANONICALIZE_HOST_NAME", "ENVIRONMENT", "SERVICE_HOST"),
    *("SERVICE_NAME", "SERVICE_REALM", "TOKEN_RESOURCE"),
}
_OPTION = re.compile(r"([^=&;]+)=([^&;]*)")

# What asks for TLS if `tls` is not given: any value of the first, and false for the others.
_TLS_FILES = ["tlscafile", "tlscertificatekeyfile", "tlscertificatekeyfilepassword", "tlscrlfile"]
_TLS_LENIENCIES = [
    *("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames"),
    "tlsdisableocspendpointcheck",
]


def options(uri: str) -> dict[str, str]:
    """Return the options of the URI's query, by name as it is written there."""
    query = uri.partition("?")[2].replace(";", "&")
    return dict(parse_qsl(query, keep_blank_values=True))


def is_local(uri: str) -> bool:
    """Return whether all servers of the URI, or of a host without a scheme, are on this machine."""
    servers = re.split("[/?]", uri.partition("://")[2] or uri)[0].rpartition("@")[2].split(",")
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
    """Return whether the URI or these client options ask for TLS, as PyMongo interprets them.

    A `mongodb+srv://` URI does by default. A value that is neither true nor false is ignored.
    """
    named: dict[str, bool] = {}
    for cased, value in [*options(uri).items(), *given.items()]:
        name = "tls" if cased.lower() == "ssl" else cased.lower()
        if name in _TLS_FILES or value in ("true", "false", True, False):
            named[name] = value not in ("", "false", False, None)
    if "tls" in named:
        return named["tls"]
    return (
        uri.startswith("mongodb+srv://")
        or any(named.get(name) for name in _TLS_FILES)
        or any(not named.get(name, True) for name in _TLS_LENIENCIES)
    )


def has_password(uri: str) -> bool:
    """Return whether the URI has a password, of the user or of a key file."""
    _, credentials, _ = _split(uri.partition("?")[0])
    named = {name.lower(): value for name, value in options(uri).items()}
    return bool(credentials.partition(":")[2] or named.get("tlscertificatekeyfilepassword"))


def may_hold_half_a_password(uri: str) -> bool:
    """Return whether there is a misplaced "@": in the path, or in the query's first name.

    In an unescaped password such as `2024/hunter2`, PyMongo takes the digits for a port and the
    rest for the name of a database, which its error message quotes.
    """
    authority, path, query = _parts(uri)
    return "@" not in authority and ("@" in path or "@" in re.split("[=&;]", query)[0])


def _parts(uri: str) -> tuple[str, str, str]:
    address, _, query = uri.partition("://")[2].partition("?")
    authority, _, path = address.partition("/")
    return authority, path, query


def without_credentials(uri: str) -> str:
    """Return the URI without user name and password, even if they are badly escaped."""
    scheme, _, rest = _split(uri)
    return scheme + rest


def masked(uri: str) -> str:
    """Return the URI as it may be shown, with asterisks for the password and secret options."""
    address, mark, query = uri.partition("?")
    # The options first, since one of them may contain an "@".
    scheme, credentials, rest = _split(address + mark + _OPTION.sub(_masked_option, query))
    user, colon, _ = credentials.partition(":")
    return scheme + user + (colon and f":{MASK}") + (credentials and "@") + rest


def _masked_option(option: re.Match[str]) -> str:
    name, value = option.groups()
    return f"{name}={MASK if _SECRET.search(name) else value}"


def _split(uri: str) -> tuple[str, str, str]:
    # At the last "@": an earlier one may be part of a password.
    scheme, separator, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    credentials, _, rest = rest.rpartition("@")
    return scheme + separator, credentials, rest


def masked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client's options as they may be shown: for an object, only its type."""
    return {name: _masked_value(name, value) for name, value in given.items()}


def _masked_value(name: str, value: Any) -> Any:
    if _SECRET.search(name):
        return MASK
    plain = value is None or isinstance(value, (str, int, float))
    return value if plain else f"a {type(value).__name__}"


def without_secrets(text: str, uri: str, given: Mapping[str, Any]) -> str:
    """Return a text without the secret values of a URI's options and a client's options."""
    secrets: list[Any] = []
    words: list[str] = []  # parts of secrets, to be masked only if they stand alone
    for name, value in [*options(uri).items(), *given.items()]:
        if _SECRET.search(name):
            secrets += value.values() if isinstance(value, Mapping) else [value]
            # PyMongo takes a comma in a token for the end of a property, and quotes what follows.
            words += re.split("[,:]", value) if isinstance(value, str) else []
    # The longest first: a shorter one may be a part of it.
    for secret in sorted((str(secret) for secret in secrets if secret), key=len, reverse=True):
        text = text.replace(secret, MASK)
    authority, _, query = _parts(uri)
    if "@" not in authority:  # so text before an "@" in the query may be part of a password
        words += re.split("[=&;]", query.rpartition("@")[0])
    for word in words:
        if word and word not in _PROPERTIES:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", MASK, text)
    return text
