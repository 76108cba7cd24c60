"""What type checkers refuse: a comment that ignores nothing is an error by itself."""

from typing import Any

from django.http import HttpRequest

from django_mongo_sessions.backends.mongodb import SessionStore
from docs.recipes.typed.cart import add


def without_an_argument() -> int:
    return 1


async def waits(data: dict[str, Any]) -> int:
    return 1


def number(value: int) -> None:
    pass


def view(request: HttpRequest) -> None:
    request.session.mutate(add)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    session = SessionStore.of(request)
    session.mutate(without_an_argument)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.mutate("add")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number(session.mutate(add))
    number(session.mutate(str))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number(session.mutate(waits))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SessionStore.of(session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def aview(request: HttpRequest) -> None:
    session = SessionStore.of(request)
    number(await session.amutate(add))
    number(session.amutate(add))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.amutate(number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
