"""The one door to settings. Everything is read live, so `override_settings` works."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Generic, NamedTuple, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

Value = TypeVar("Value")
Factory = Callable[[], Any] | str | None

KEYS: dict[str, Key[Any]] = {}
_CLIENT = "a callable that returns a client, its dotted path, or None"


class Key(Generic[Value]):
    """A key of `MONGO_SESSIONS`: its default, and which values it takes, in words and in code."""

    def __init__(self, default: Value, takes: str, fits: Callable[[Any], bool]) -> None:
        self.default, self.takes, self.fits = default, takes, fits

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


# As PyMongo has it, and the server, whose own collections begin with "system.".
_DATABASE = r"""[^\0 ."$/\\\ud800-\udfff]+"""
_COLLECTION = r"(?!system\.)[^\0$.]+(\.[^\0$.]+)*"


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_factory(value: Any) -> bool:
    return value is None or callable(value) or (isinstance(value, str) and "." in value)


def _is_options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_seconds(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf


def _is_age(value: Any) -> bool:
    return value is None or _is_seconds(value)


class Conf:
    """`settings.MONGO_SESSIONS`, key by key, and the keys that sign."""

    #: What PyMongo takes, or `mongomock://` with an optional `/database`.
    URI = Key("mongodb://localhost:27017", "a string that is not empty", _matches(r"[^\0]+"))
    #: The database's name; None leaves it to the URI.
    DATABASE = Key[str | None](
        None,
        'a name of up to 63 bytes without spaces or any of /\\."$, or None',
        lambda name: name is None or (_matches(_DATABASE)(name) and len(name.encode()) < 64),
    )
    #: The collection's name.
    COLLECTION = Key(
        "sessions",
        "a name without $, with no dot at its ends, and that does not begin with system.",
        _matches(_COLLECTION),
    )
    #: What returns a `MongoClient` to share with the rest of the site; once per process.
    CLIENT = Key[Factory](None, _CLIENT, _is_factory)
    #: What returns an `AsyncMongoClient` to share; once per event loop.
    ASYNC_CLIENT = Key[Factory](None, _CLIENT, _is_factory)
    #: Keyword arguments for the clients that we make.
    CLIENT_OPTIONS = Key[Mapping[str, Any]](
        {}, "a dict of PyMongo's keyword arguments", _is_options
    )
    #: Seconds for one operation as a whole, where the client has no `timeoutMS` of its own.
    TIMEOUT = Key(5.0, "a number of seconds above 0", _is_seconds)
    #: Which event loops get a client of their own: those that last, all of them, or none.
    ASYNC = Key("auto", '"auto", "native" or "threads"', ("auto", "native", "threads").__contains__)
    #: What happens when two requests change one key: the later one counts, or SessionConflict.
    ON_CONFLICT = Key("merge", '"merge" or "raise"', ("merge", "raise").__contains__)
    #: Seconds after which a session that is read has its expiry moved; None for never. Only by
    #: our middleware.
    TOUCH_INTERVAL = Key[float | None](None, "a number of seconds above 0, or None", _is_age)
    #: Seconds after which a session ends, however busy it is; None for never.
    ABSOLUTE_AGE = Key[float | None](None, "a number of seconds above 0, or None", _is_age)
    #: Whether `modified` looks for changes inside of values.
    TRACK_NESTED = Key(False, "True or False", lambda value: isinstance(value, bool))

    @property
    def given(self) -> Mapping[str, Any]:
        """What the project has set; raise ImproperlyConfigured where that is no dict."""
        given = getattr(settings, "MONGO_SESSIONS", {})
        if not isinstance(given, Mapping):
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS is a {type(given).__name__}. It must be a dict, such as "
                '{"URI": "mongodb://localhost:27017/mysite"}.'
            )
        return given

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the keys and their values."""
        for name, value in self.given.items():
            if name not in KEYS:
                near = get_close_matches(str(name).upper(), KEYS, n=1, cutoff=0.5)
                remedy = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(KEYS)}."
                yield Fault(str(name), "is not a key of it", remedy)
            elif not KEYS[name].fits(value):
                # Its type, and not the value itself, which may hold a password.
                problem = f"does not take the {type(value).__name__} that it is set to"
                yield Fault(name, problem, f"It takes {KEYS[name].takes}.")

    @property
    def SIGNING_KEYS(self) -> list[str | bytes]:
        """The key that signs, then those that may only open."""
        return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]

    @property
    def DEBUG(self) -> bool:
        """Whether somebody is at work on the site."""
        return bool(settings.DEBUG)


conf = Conf()
