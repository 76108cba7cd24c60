from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View
from django.views.decorators.http import require_POST

from django_mongo_sessions.backends.mongodb import SessionStore


def add(data: dict[str, Any]) -> int:
    """Put one more book into the cart, and return how many there are."""
    count: int = data.get("books", 0) + 1
    data["books"] = count
    return count


@require_POST
def buy(request: HttpRequest) -> HttpResponse:
    books = SessionStore.of(request).mutate(add)
    return HttpResponse(f"Books: {books:,}")


async def buy_async(request: HttpRequest) -> HttpResponse:
    books = await SessionStore.of(request).amutate(add)
    return HttpResponse(f"Books: {books:,}")


class Buy(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(self.answer())

    def answer(self) -> str:
        return f"Books: {SessionStore.of(self.request).mutate(add):,}"


urlpatterns = [
    path("buy/", buy),
    path("buy-async/", buy_async),
    path("buy-class/", Buy.as_view()),
]
