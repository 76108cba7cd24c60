"""The look-up of the servers behind a `mongodb+srv://` URI, which PyMongo does at the first use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import ConfigurationError

from django_mongo_sessions.connection import errors
from django_mongo_sessions.exceptions import DNSUnavailable

# What dnspython raises if no DNS server replies, or those that do report a failure. Any other error
# of dnspython's says that the host of the URI is wrong. By name, since dnspython may be missing.
_NO_REPLY = {"LifetimeTimeout", "NoNameservers", "NoResolverConfiguration", "Timeout"}


@contextmanager
def dns_outages(collection: Any = None) -> Iterator[None]:
    """Raise DNSUnavailable if the DNS is down. PyMongo says that the configuration is wrong.

    `collection` is the one that is called; None if there is none yet.
    """
    try:
        yield
    except ConfigurationError as error:
        if not _is_dns_outage(error):
            raise
        host = "MongoDB"
        if collection is not None:
            topology = collection.database.client.topology_description
            host = ", ".join(name for name, _ in topology.server_descriptions())
        said = str(error).removesuffix(".")
        raise errors.advise(
            DNSUnavailable(f"The servers of {host} cannot be looked up in the DNS: {said}"),
            errors.ADVICE_ON_DNS,
        ) from None


def _is_dns_outage(error: ConfigurationError) -> bool:
    cause = type(error.__context__)  # PyMongo 4.15.1 leaves out the __cause__
    return cause.__module__.startswith("dns.") and cause.__name__ in _NO_REPLY
