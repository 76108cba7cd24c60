"""Check MONGO_SESSIONS, its client, the serializer, TLS and the cookie. Nothing connects."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks, mail
from django.core.checks.security import sessions as cookies
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from pymongo import MongoClient
from pymongo.errors import ConfigurationError

from django_mongo_sessions.checks.messages import WORKER_TIMEOUT, message
from django_mongo_sessions.conf import KEYS, conf
from django_mongo_sessions.connection import collection, uris
from django_mongo_sessions.connection.addresses import address
from django_mongo_sessions.exceptions import KeysUnavailable
from django_mongo_sessions.storage import dates, keyring

DJANGO_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"
MIDDLEWARE = "django_mongo_sessions.middleware.SessionMiddleware"
DJANGO_DEFAULT = "django.contrib.sessions.backends.db"
DJANGO_CACHE = "django.contrib.sessions.backends.cache.SessionStore"
FURTHEST_DAY = 400  # days ahead; no session of Django's lasts longer in a browser
STORE = "django_mongo_sessions.backends.mongodb.SessionStore"


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check MONGO_SESSIONS, and the client that is made from it."""
    try:
        faults = list(conf.faults())
    except ImproperlyConfigured as error:
        return [message("E001", problem=error)]
    if faults:
        ids = ["E003" if fault.key in KEYS else "E002" for fault in faults]
        return [message(id, **fault._asdict()) for id, fault in zip(ids, faults, strict=True)]
    return list(_check_values())


def are_wrong() -> bool:
    """Return whether `check_settings` has found an error, so that other checks can be skipped."""
    return any(found.is_serious() for found in check_settings())


def check_engine(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that SESSION_ENGINE can be used, and is this engine if MONGO_SESSIONS is set."""
    name = settings.SESSION_ENGINE
    try:
        import_string(f"{name}.SessionStore")
    except ImportError as error:
        return [message("E021", name=name, problem=error)]
    except Exception as error:  # a module may raise anything, such as a KeyError without a sentence
        return [message("E021", name=name, problem=repr(error))]
    if uses_engine() or are_wrong() or not conf.given:
        return []
    if name == conf.PREDECESSOR:  # the switch from that one is being prepared
        return []
    default = ", Django's default" if name == DJANGO_DEFAULT else ""
    return [message("W027", name=name, default=default)]


def uses_engine() -> bool:
    """Return whether SESSION_ENGINE names this engine, or one that derives from it."""
    return _is_subclass(f"{settings.SESSION_ENGINE}.SessionStore", import_string(STORE))


def _check_values() -> Iterator[checks.CheckMessage]:
    yield from _check_client_settings()
    if (interval := conf.TOUCH_INTERVAL) is not None:
        if interval >= settings.SESSION_COOKIE_AGE:
            yield message("E009", interval=interval, age=settings.SESSION_COOKIE_AGE)
        if not _middleware(MIDDLEWARE):
            yield message("W015")
    yield from _check_users()
    yield from _check_encryption()
    if conf.PREDECESSOR is not None:
        yield from _check_predecessor()


def _check_encryption() -> Iterator[checks.CheckMessage]:
    if conf.ENCRYPTION_KEYS is None:
        if conf.ENCRYPTION is not None:
            yield message("E017")
        return
    try:
        keyring.cipher()
    except ImproperlyConfigured as error:
        yield message("E015", problem=error)
        return
    try:
        keys = keyring.named()
        if not callable(keys):  # which is not called before it is needed
            keyring.read(keys)
    except (ImproperlyConfigured, KeysUnavailable) as error:
        yield message("E016", problem=error)
    if conf.encrypts and conf.compress_from(encrypts=True) is not False:
        yield message("W024")


def check_encryption(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that only encrypted sessions open, if there are keys. For `check --deploy`."""
    if are_wrong() or conf.encryption in (None, "only"):
        return []
    return [message("W023", mode=conf.encryption)]


def _check_predecessor() -> Iterator[checks.CheckMessage]:
    try:
        until = conf.predecessor_until()
    except ImproperlyConfigured as error:
        yield message("E014", problem=error)
    else:
        days = (until - dates.utc_now()).days
        if days > FURTHEST_DAY:
            yield message("W019", days=days)
        elif days < 0:
            yield message("W020")
    try:
        old = conf.predecessor_class()
    except ImproperlyConfigured as error:
        yield message("E013", problem=error)
        return
    if issubclass(old, import_string(DJANGO_CACHE)):
        yield message("W021")
    try:
        getattr(old, "get_model_class", bool)()
    except RuntimeError as error:
        yield message("W022", problem=error)


def _check_users() -> Iterator[checks.CheckMessage]:
    for key in ("ADDRESS_FROM", "MAX_SESSIONS"):
        try:
            conf.function(key)
        except ImproperlyConfigured as error:
            yield message("E011", problem=error)
    recorded = [key for key in ("USER_AGENT", "ADDRESS") if getattr(conf, key)]
    if recorded and not _middleware(MIDDLEWARE):
        for key in recorded:
            yield message("W017", key=key)


def _check_client_settings() -> Iterator[checks.CheckMessage]:
    for setting in ("CLIENT", "ASYNC_CLIENT"):
        try:
            collection.import_factory(setting)
        except ImproperlyConfigured as error:
            if getattr(error.__cause__, "name", None) == "mongomock":
                yield message("E022", key=setting)
            else:
                yield message("E003", key=setting, problem="cannot be used", remedy=str(error))
    if collection.uses_mock():
        if find_spec("mongomock") is None:
            yield message("E022", key="URI")
        # Django's test runner sets DEBUG to False, but it also sets up an outbox.
        elif not settings.DEBUG and not hasattr(mail, "outbox"):
            yield message("W002")
    elif conf.CLIENT is not None:  # which is not called before it is needed
        yield from _check_timeout(conf.TIMEOUT)
        if conf.ASYNC == "native" and not collection.has_async():
            yield message("W014")
    elif conf.DATABASE_ALIAS is not None:
        yield from _check_alias()
    else:
        if conf.ASYNC_CLIENT is not None:
            yield message("W007")
        yield from _check_client("E004")


def _check_alias() -> Iterator[checks.CheckMessage]:
    try:
        address()
    except ImproperlyConfigured as error:
        yield message("E019", problem=error)
        return
    if "URI" in conf.given:
        yield message("W026")
    yield from _check_client("E020")


def _check_client(rejected: str) -> Iterator[checks.CheckMessage]:
    with warnings.catch_warnings(record=True) as ignored:
        warnings.simplefilter("always")
        try:
            client = collection.make_client(MongoClient)
        except ImproperlyConfigured as error:
            yield message(rejected, problem=error)
            return
    client.close()
    for warning in ignored:
        yield message("W009", problem=collection.without_secrets(str(warning.message)))
    if client.write_concern.document.get("w") == 0:
        yield message("E005")
    yield from _check_timeout(collection.timeout(client) or math.inf)
    yield from check_database(client)


def check_database(client: Any) -> Iterator[checks.CheckMessage]:
    """Check that the settings or the client name a database."""
    if address().database is None:
        try:
            client.get_default_database()
        except ConfigurationError:
            yield message("W003")


def _check_timeout(seconds: float) -> Iterator[checks.CheckMessage]:
    if seconds > WORKER_TIMEOUT:
        yield message("W004", seconds=seconds)


def check_keys(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that SECRET_KEY_FALLBACKS has no empty key."""
    if all(settings.SECRET_KEY_FALLBACKS):
        return []
    return [message("E010")]


def check_tls(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that connections to another machine use TLS. For `check --deploy`."""
    if are_wrong() or conf.CLIENT is not None or collection.uses_mock():
        return []
    server = address()
    if not uris.is_local(server.uri) and not uris.has_tls(server.uri, server.options):
        return [message("W008")]
    return []


def check_password(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the URI has no password, which Django does not mask there. For `check --deploy`.

    It cannot be seen whether the URI comes from the environment, nor does that matter here.
    """
    if are_wrong() or conf.CLIENT is not None or conf.DATABASE_ALIAS is not None:
        return []
    return [message("W028")] if uris.has_password(conf.URI) else []


def check_cookies(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check the cookie's flags as Django does, also for a subclass of its middleware.

    Django recognizes its middleware only by its path. If `django.contrib.sessions` is installed,
    Django checks the flags for that reason. For `check --deploy`.
    """
    if DJANGO_MIDDLEWARE in settings.MIDDLEWARE or apps.is_installed("django.contrib.sessions"):
        return []
    subclasses = _middleware(DJANGO_MIDDLEWARE)
    if not subclasses:
        return []
    flags = [
        (cookies.W011, settings.SESSION_COOKIE_SECURE),
        (cookies.W014, settings.SESSION_COOKIE_HTTPONLY),
    ]
    return [
        checks.Warning(warning.msg.replace(DJANGO_MIDDLEWARE, subclasses[0]), id=warning.id)
        for warning, is_set in flags
        if is_set is not True
    ]


def _middleware(path: str) -> list[str]:
    """Return the paths in MIDDLEWARE that name this class or a subclass."""
    return [given for given in settings.MIDDLEWARE if _is_subclass(given, import_string(path))]


def _is_subclass(path: str, kind: type) -> bool:
    try:
        named = import_string(path)
    except Exception:  # a module may raise anything; Django reports it when it starts
        return False
    return isinstance(named, type) and issubclass(named, kind)


# The serializer


def check_serializer(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check with a harmless value whether SESSION_SERIALIZER unpickles, and whether it varies."""
    try:
        serializer = import_string(settings.SESSION_SERIALIZER)
    except ImportError as error:
        return [message("E007", problem=error)]
    if not callable(serializer):
        name = type(serializer).__name__
        return [message("E007", problem=f"it names a {name}, which is not a class")]
    wrong = {"W001": unpickles, "W013": varies}
    return [message(id) for id, is_so in wrong.items() if is_so(serializer)]


_PROBE = {"is this": "unpickled?"}


class _Private:
    """A class that only an unpickler, or something like it, can make an instance of."""


def unpickles(serializer: Callable[[], Any]) -> bool:
    """Return whether it loads a plain pickle, or brings back an instance of any class.

    The second finds a serializer that wraps a pickle in something else.
    """
    return _holds(lambda: serializer().loads(pickle.dumps(_PROBE)) == _PROBE) or _holds(
        lambda: type(serializer().loads(serializer().dumps({"it": _Private()}))["it"]) is _Private
    )


def varies(serializer: Callable[[], Any]) -> bool:
    """Return whether it makes different bytes of the same data, also once it has loaded them."""
    sample = {"text": "<a> & 'b'", "list": [1, -2.5, None], "dict": {"yes": True, "empty": {}}}

    def question() -> bool:
        body = serializer().dumps(copy.deepcopy(sample))
        if serializer().dumps(copy.deepcopy(sample)) != body:
            return True
        return bool(serializer().dumps(serializer().loads(body)) != body)

    return _holds(question)


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except Exception:  # a serializer may raise anything, and should, given a pickle
        return False
