"""Every setting of the package: its default, and what it accepts.

No other module reads Django's settings for these. They are read live, so `override_settings`
works.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from difflib import get_close_matches
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

Value = TypeVar("Value")
Factory = Callable[[], Any] | str | None

KEYS: dict[str, Key[Any]] = {}
_PACKAGE = __name__.partition(".")[0]
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
    return value is None or value is False or (type(value) is int and value >= 0)


def _is_keys(value: Any) -> bool:
    # What is in the list is checked by itself, so that the message can say which one is wrong.
    return isinstance(value, (list, tuple)) or _is_factory(value)


_MODES = ("prepare", "transition", "only")
_COMPRESS = 4096  # bytes, of payloads that are not encrypted


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
    #: Bytes of a serialized session from which it is compressed; False for never. None is 4096, and
    #: never if it is encrypted. What is stored opens whatever this says.
    COMPRESS = Key[int | None](None, "a whole number of bytes, False, or None", _is_threshold)
    #: The keys that encrypt sessions: the first one encrypts, and all of them open. Or a callable
    #: that returns them, or its dotted path. None if sessions are not encrypted.
    ENCRYPTION_KEYS = Key[Sequence[Any] | Factory](
        None, "a list of keys, a callable that returns one, its dotted path, or None", _is_keys
    )
    #: Whether sessions are encrypted, and those that are not still open. None is "only" with
    #: ENCRYPTION_KEYS.
    ENCRYPTION = Key[str | None](
        None, '"prepare", "transition", "only" or None', (*_MODES, None).__contains__
    )

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
    #: Seconds after a sign-in in which the page ends sessions without asking for the password; None
    #: never asks.
    REAUTHENTICATE = Key[float | None](900, "a number of seconds above 0, or None", _is_age)

    #: The dotted path of the engine that the site had before, whose sessions are adopted when they
    #: are used; None if there is none.
    PREDECESSOR = Key[str | None](
        None,
        "the dotted path of a session engine, or None",
        lambda value: value is None or (isinstance(value, str) and value != ""),
    )
    #: The day from which the old engine is not asked any more, in UTC.
    PREDECESSOR_UNTIL = Key[date | str | None](
        None,
        'a date, such as "2027-01-15"',
        lambda value: value is None or isinstance(value, (date, str)),
    )
    #: Whether sessions are left in the old engine when they are adopted: for the days of a deploy.
    PREDECESSOR_KEEPS = Key(False, "True or False", lambda value: isinstance(value, bool))

    def predecessor_until(self) -> datetime:
        """Return the moment from which the old engine is not asked any more.

        Raises ImproperlyConfigured if PREDECESSOR_UNTIL is missing, or no date.
        """
        given = self.PREDECESSOR_UNTIL
        try:
            day = date.fromisoformat(given) if isinstance(given, str) else given
            if day is None:
                raise ValueError
            if isinstance(day, datetime):
                day = day.date()
        except ValueError:
            raise ImproperlyConfigured(
                "MONGO_SESSIONS['PREDECESSOR_UNTIL'] must be the day from which the old engine is "
                'not asked any more, such as "2027-01-15".'
            ) from None
        return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)

    def predecessor_class(self) -> type[SessionBase]:
        """Return the class `SessionStore` of the engine that PREDECESSOR names.

        Raises ImproperlyConfigured if it cannot be imported, has no such class, or is this engine.
        """
        name = self.PREDECESSOR
        try:
            found = import_string(f"{name}.SessionStore")
        except (ImportError, RuntimeError) as error:  # the second, if its app is not installed
            raise ImproperlyConfigured(f"MONGO_SESSIONS['PREDECESSOR']: {error}") from error
        if not isinstance(found, type) or not issubclass(found, SessionBase):
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS['PREDECESSOR']: {name}.SessionStore is no session store."
            )
        if any(base.__module__.partition(".")[0] == _PACKAGE for base in found.__mro__):
            raise ImproperlyConfigured(
                f"MONGO_SESSIONS['PREDECESSOR'] is {name}, which is this engine. It must be the "
                "one that the site had before."
            )
        return found

    def function(self, name: str) -> Callable[..., Any]:
        """Return the callable that a key names, by itself or by its dotted path.

        Any other value is returned as it is. Raises ImproperlyConfigured if it cannot be imported,
        or cannot be called.
        """
        found = value = getattr(self, name)
        if isinstance(value, str):
            try:
                found = import_string(value)
            except Exception as error:  # a module may raise anything while it is imported
                raise ImproperlyConfigured(f"MONGO_SESSIONS[{name!r}]: {error}") from error
            if not callable(found):
                raise ImproperlyConfigured(f"MONGO_SESSIONS[{name!r}]: {value} cannot be called.")
        is_async = callable(found) and iscoroutinefunction(type(found).__call__)
        if is_async or iscoroutinefunction(found):
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
    def encryption(self) -> str | None:
        """Which of ENCRYPTION's values applies; None if sessions are not encrypted.

        Raises ImproperlyConfigured for an unknown value, and for one without ENCRYPTION_KEYS:
        nothing may be stored in plain text by mistake.
        """
        mode = self.ENCRYPTION
        if self.ENCRYPTION_KEYS is None:
            if mode is None:
                return None
            raise ImproperlyConfigured("MONGO_SESSIONS has ENCRYPTION, but no ENCRYPTION_KEYS.")
        if mode is None:
            return "only"
        if mode not in _MODES:
            accepts = KEYS["ENCRYPTION"].accepts
            raise ImproperlyConfigured(f"MONGO_SESSIONS['ENCRYPTION'] accepts {accepts}.")
        return mode

    @property
    def encrypts(self) -> bool:
        """Whether what is stored now is encrypted. Raises what `encryption` raises."""
        return self.encryption in ("transition", "only")

    def compress_from(self, encrypts: bool) -> int | Literal[False]:
        """Return the size in bytes from which a body is compressed; False for never."""
        given = self.COMPRESS
        if given is None:
            return False if encrypts else _COMPRESS
        return given

    @property
    def SESSION_ENGINE(self) -> str:
        """The dotted path of the engine that the site uses."""
        return settings.SESSION_ENGINE

    @property
    def DEBUG(self) -> bool:
        """Whether the site runs in development."""
        return bool(settings.DEBUG)


conf = Conf()
