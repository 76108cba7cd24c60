"""Every setting of the package: its default, and what it accepts.

No other module reads Django's settings for these. They are read live, so `override_settings`
works.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Generic, NamedTuple, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

Value = TypeVar("Value")
Factory = Callable[[], Any] | str | None

KEYS: dict[str, Key[Any]] = {}
_CLIENT = "a callable that returns a client, its dotted path, or None"


class Key(Generic[Value]):
    """A key of `MONGO_SESSIONS`: its default, and which values it accepts, in words and in code."""

    def __init__(self, default: Value, accepts: str, fits: Callable[[Any], bool]) -> None:
        self.default, self.accepts, self.fits = default, accepts, fits

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        KEYS[name] = self

    def __get__(self, conf: Conf, owner: type) -> Value:
        value: Value = conf.given.get(self.name, self.default)
        return value


class Fault(NamedTuple):
    """What is wrong with a key of `MONGO_SESSIONS`."""

    key: str
    problem: str
    remedy: str


# What PyMongo and the server accept; the server's own collections begin with "system.".
_DATABASE = r"""[^\0 ."$/\\\ud800-\udfff]+"""
_COLLECTION = r"(?!system\.)[^\0$.]+(\.[^\0$.]+)*"


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_database(name: Any) -> bool:
    return name is None or (_matches(_DATABASE)(name) and len(name.encode()) < 64)


def _is_test(value: Any) -> bool:
    return _is_options(value) and set(value) <= {"DATABASE"} and _is_database(value.get("DATABASE"))


def _is_factory(value: Any) -> bool:
    return value is None or callable(value) or (isinstance(value, str) and "." in value)


def _is_options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_seconds(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf


def _is_age(value: Any) -> bool:
    return value is None or _is_seconds(value)


def _is_threshold(value: Any) -> bool:
    return value is False or (type(value) is int and value >= 0)


class Conf:
    """`settings.MONGO_SESSIONS`, key by key, and the signing keys."""

    #: What PyMongo accepts, or `mongomock://` with an optional `/database`.
    URI = Key("mongodb://localhost:27017", "a string that is not empty", _matches(r"[^\0]+"))
    #: The name of the database; None uses the one in the URI.
    DATABASE = Key[str | None](
        None,
        'a name of up to 63 bytes without spaces or any of /\\."$, or None',
        _is_database,
    )
    #: The name of the collection.
    COLLECTION = Key(
        "sessions",
        "a name without $ that neither begins nor ends with a dot, nor begins with system.",
        _matches(_COLLECTION),
    )
    #: The alias in DATABASES of a database of django-mongodb-backend's, instead of a URI.
    DATABASE_ALIAS = Key[str | None](
        None, "an alias of DATABASES, or None", lambda value: value is None or type(value) is str
    )
    #: A callable that returns the site's `MongoClient`, to share it; called once per process.
    CLIENT = Key[Factory](None, _CLIENT, _is_factory)
    #: A callable that returns the site's `AsyncMongoClient`; called once per event loop.
    ASYNC_CLIENT = Key[Factory](None, _CLIENT, _is_factory)
    #: Keyword arguments for the clients that the engine makes.
    CLIENT_OPTIONS = Key[Mapping[str, Any]](
        {}, "a dict of PyMongo's keyword arguments", _is_options
    )
    #: Seconds for one operation as a whole, if the client has no `timeoutMS` of its own.
    TIMEOUT = Key(5.0, "a number of seconds above 0", _is_seconds)
    #: How test runs differ: the name of their database, which is otherwise "test_" and the site's.
    TEST = Key[Mapping[str, str | None]](
        {}, 'a dict such as {"DATABASE": "test_mysite"}, with no other key', _is_test
    )
    #: Which event loops get a client of their own: those that run for a second, all, or none.
    ASYNC = Key("auto", '"auto", "native" or "threads"', ("auto", "native", "threads").__contains__)
    #: Whether loads and saves that are due at the same moment go out as one command.
    COALESCE = Key(True, "True or False", lambda value: isinstance(value, bool))
    #: What happens if two requests change one key: the later change wins, or SessionConflict.
    ON_CONFLICT = Key("merge", '"merge" or "raise"', ("merge", "raise").__contains__)
    #: Seconds after which the expiry of a session that is only read is moved; None for never.
    #: Only this package's middleware does it.
    TOUCH_INTERVAL = Key[float | None](None, "a number of seconds above 0, or None", _is_age)
    #: Seconds after which a session ends even if it is used all the time; None for never.
    ABSOLUTE_AGE = Key[float | None](None, "a number of seconds above 0, or None", _is_age)
    #: Whether `modified` notices changes inside values.
    TRACK_NESTED = Key(False, "True or False", lambda value: isinstance(value, bool))
    #: Bytes of a serialized session from which it is compressed; False for never. What is stored
    #: opens whatever this says.
    COMPRESS = Key[int](4096, "a whole number of bytes, or False", _is_threshold)

    #: Whether the browser's `User-Agent` is stored with a session.
    USER_AGENT = Key(False, "True or False", lambda value: isinstance(value, bool))
    #: Whether the client's address is stored with a session: its network, all of it, or not at all.
    ADDRESS = Key[str | None](
        None, '"prefix", "full" or None', ("prefix", "full", None).__contains__
    )
    #: A callable that returns the client's address for a request, or None; None for REMOTE_ADDR.
    ADDRESS_FROM = Key[Factory](
        None, "a callable that takes a request, its dotted path, or None", _is_factory
    )
    #: How many sessions a user may have; the least recently seen end first.
    MAX_SESSIONS = Key[int | Factory](
        None,
        "a whole number above 0, a callable that takes a user's id, its dotted path, or None",
        lambda value: _is_factory(value) or (type(value) is int and value > 0),
    )
    #: Whether the sessions of a user end if the account is deleted, or saved as inactive.
    REVOKE_WITH_ACCOUNT = Key(True, "True or False", lambda value: isinstance(value, bool))

    def function(self, name: str) -> Callable[..., Any]:
        """Return the callable that a key names, by itself or by its dotted path.

        Any other value is returned as it is. Raises ImproperlyConfigured if it cannot be imported,
        or cannot be called.
        """
        found = value = getattr(self, name)
        if isinstance(value, str):
            try:
                found = import_string(value)
            except ImportError as error:
                raise ImproperlyConfigured(f"MONGO_SESSIONS[{name!r}]: {error}") from error
            if not callable(found):
                raise ImproperlyConfigured(f"MONGO_SESSIONS[{name!r}]: {value} cannot be called.")
        if iscoroutinefunction(found):
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS[{name!r}] is a coroutine function. It must be an ordinary one."
            )
        return found  # type: ignore[no-any-return]

    @property
    def given(self) -> Mapping[str, Any]:
        """What the project has set; raise ImproperlyConfigured if it is not a dict."""
        given = getattr(settings, "MONGO_SESSIONS", {})
        if type(given) is not dict and not isinstance(given, Mapping):
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS is a {type(given).__name__}. It must be a dict, such as "
                '{"URI": "mongodb://localhost:27017/mysite"}.'
            )
        return given

    def faults(self) -> Iterator[Fault]:
        """Yield each unknown key, and each key whose value is not accepted."""
        for name, value in self.given.items():
            if name not in KEYS:
                near = get_close_matches(str(name).upper(), KEYS, n=1, cutoff=0.5)
                known = f"The known keys are {', '.join(KEYS)}."
                remedy = f"Did you mean {near[0]!r}?" if near else known
                yield Fault(str(name), "is not a known key", remedy)
            elif not KEYS[name].fits(value):
                # Its type, and not the value itself, which may hold a password.
                problem = f"does not accept the {type(value).__name__} that it is set to"
                yield Fault(name, problem, f"It accepts {KEYS[name].accepts}.")
        if self.DATABASE_ALIAS is not None and (self.CLIENT or self.ASYNC_CLIENT) is not None:
            problem = "and CLIENT or ASYNC_CLIENT each name a client"
            yield Fault("DATABASE_ALIAS", problem, "Remove one of them.")

    @property
    def SIGNING_KEYS(self) -> list[str | bytes]:
        """The key that seals, then the fallbacks that may only open.

        An empty fallback is left out: with it, whoever can write to the database could seal.
        """
        return [settings.SECRET_KEY, *(key for key in settings.SECRET_KEY_FALLBACKS if key)]

    @property
    def DEBUG(self) -> bool:
        """Whether the site runs in development."""
        return bool(settings.DEBUG)


conf = Conf()
