"""What type checkers accept beside docs/recipes/typed: a site's own classes."""

from typing import Any

from django import http
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path
from django.views.generic import TemplateView

from django_mongo_sessions.backends import mongodb
from docs.recipes.typed.cart import add


class SessionStore(mongodb.SessionStore):
    """A store that derives from the engine's."""

    def tenant(self) -> str:
        return "one"


class AuthenticatedHttpRequest(http.HttpRequest):
    """A request as django-stubs recommends it; mypy accepts it, and pyright in its mode "basic"."""

    user: User  # pyright: ignore[reportIncompatibleVariableOverride]


class HttpRequest(http.HttpRequest):
    """The same for the session."""

    session: SessionStore  # pyright: ignore[reportIncompatibleVariableOverride]


@login_required
def derived(request: AuthenticatedHttpRequest) -> HttpResponse:
    name: str = request.user.username + SessionStore.of(request).tenant()
    return HttpResponse(name)


def by_the_request(request: HttpRequest) -> HttpResponse:
    count: int = request.session.mutate(add)
    return HttpResponse(request.session.tenant() + str(count))


class Page(TemplateView):
    """A generic view."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        count: int = SessionStore.of(self.request).mutate(add)
        return {**super().get_context_data(**kwargs), "count": count}


urlpatterns = [path("a", derived), path("b", by_the_request), path("c", Page.as_view())]
