"""The look-up of the servers behind a `mongodb+srv://` URI, which PyMongo does at the first use."""

from __future__ import annotations

from typing import Any

from pymongo.errors import ConfigurationError

from django_mongo_sessions.connection import errors
from django_mongo_sessions.exceptions import DNSUnavailable

# What dnspython raises if no DNS server replies, or those that do report a failure. Any other error
# of dnspython's says that the host of the URI is wrong. By name, since dnspython may be missing.
_NO_REPLY = {"LifetimeTimeout", "NoNameservers", "NoResolverConfiguration", "Timeout"}


def dns_outage(error: Exception, collection: Any = None) -> DNSUnavailable | None:
    """Return the error to raise if PyMongo's shows that the DNS is down; None if it does not.

    PyMongo says that the configuration is wrong. `collection` is the one that was called; None if
    there is none yet.
    """
    if not isinstance(error, ConfigurationError) or not _is_without_reply(error):
        return None
    host = "MongoDB"
    if collection is not None:
        topology = collection.database.client.topology_description
        host = ", ".join(name for name, _ in topology.server_descriptions())
    said = str(error).removesuffix(".")
    outage = DNSUnavailable(f"The servers of {host} cannot be looked up in the DNS: {said}")
    return errors.advise(outage, errors.ADVICE_ON_DNS)


def _is_without_reply(error: ConfigurationError) -> bool:
    cause = type(error.__context__)  # PyMongo 4.15.1 leaves out the __cause__
    return cause.__module__.startswith("dns.") and cause.__name__ in _NO_REPLY
