"""Call the methods that a subclass of the store overrides, wherever Django's own engines call them.

The steps of a verb do what these methods do without calling them. So before such a step, they ask
whether a subclass has overridden the method, and then yield `Overridden` instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import SessionBase

from django_mongo_sessions.mongo.runner import awaitable_twin

AwaitableMethod = TypeVar("AwaitableMethod", bound=Callable[..., Coroutine[Any, Any, Any]])

_NAMES = (
    "load",
    "exists",
    "create",
    "save",
    "delete",
    "cycle_key",
    "flush",
    "mutate",
    "describe",
    "get_expiry_age",
    "get_expiry_date",
    "_get_new_session_key",
)

_PAYLOAD = (
    "The engine seals or encrypts what it stores, and calls neither encode() nor decode(). To "
    "store the data in another form, name a serializer in SESSION_SERIALIZER. To encrypt it, set "
    "ENCRYPTION_KEYS in MONGO_SESSIONS."
)
_MODEL = (
    "The engine has no model. To store fields of your own with a session, override to_document()."
)
# What the engine does not call, and what to do instead.
_REFUSED = {
    "encode": _PAYLOAD,
    "decode": _PAYLOAD,
    "create_model_instance": _MODEL,
    "acreate_model_instance": _MODEL,
    "get_model_class": _MODEL,
}


class Method(NamedTuple):
    """A method of the store, in both of its forms."""

    name: str
    twin: str
    blocking: Any
    awaitable: Any


def methods(store: type[SessionBase]) -> dict[str, Method]:
    """Return the methods of the store that subclasses may override, by their blocking names."""
    return {
        name: Method(name, twin, getattr(store, name), getattr(store, twin))
        for name in _NAMES
        for twin in [awaitable_twin(name)]
    }


def refuse(cls: type[SessionBase]) -> None:
    """Raise TypeError if a subclass overrides what the engine does not call."""
    for name, remedy in _REFUSED.items():
        if getattr(cls, name, None) is not getattr(SessionBase, name, None):
            raise TypeError(f"{cls.__module__}.{cls.__qualname__} overrides {name}(). {remedy}")


def is_overridden(session: SessionBase, method: Method) -> bool:
    """Return whether a subclass, or the object itself, overrides one of the two forms."""
    name, twin, blocking, awaitable = method
    cls, own = type(session), vars(session)
    return (
        getattr(cls, name) is not blocking
        or getattr(cls, twin) is not awaitable
        or name in own
        or twin in own
    )


# The blocking methods that a thread is calling for the running task.
_in_threads: ContextVar[tuple[tuple[SessionBase, str], ...]] = ContextVar("_in_threads", default=())


def twin(method: AwaitableMethod) -> AwaitableMethod:
    """Decorate the awaitable form of a method: it calls the blocking one in a thread, if a subclass
    overrides only that.
    """
    name = method.__name__
    blocking = name.replace("a", "", 1)

    @functools.wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        under_way = _in_threads.get()
        is_in_thread = (
            self._overrides(blocking)
            and is_blocking_alone(self, blocking, name)
            and (self, blocking) not in under_way  # else it calls its awaitable form
        )
        if is_in_thread:
            _in_threads.set((*under_way, (self, blocking)))
        chosen = sync_to_async(getattr(self, blocking)) if is_in_thread else method
        called = chosen(self, *args, **kwargs) if chosen is method else chosen(*args, **kwargs)
        del args, kwargs  # a traceback shows the variables of this frame
        try:
            return await called
        finally:
            if is_in_thread:
                _in_threads.set(under_way)

    return cast(AwaitableMethod, call)


def is_blocking_alone(session: SessionBase, blocking: str, awaitable: str) -> bool:
    """Return whether the most derived class with one of the two forms has only the blocking one.

    Of a proxy, whose `__class__` is not its type, the classes of both are looked at.
    """
    classes = (*type(session).__mro__, *session.__class__.__mro__)
    namespaces = chain((vars(session),), map(vars, classes))
    last = next(names for names in namespaces if blocking in names or awaitable in names)
    return awaitable not in last
