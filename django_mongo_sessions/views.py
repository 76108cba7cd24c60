"""The page on which users see where they are signed in, and end it::

    path("account/sessions/", include("django_mongo_sessions.urls")),

GET lists the sessions. POST ends one (`session=<id>`), all `others` or `all`, or signs out
(`signout`), and redirects. No URL holds an id. If a sign-in is older than REAUTHENTICATE, ending
needs the password as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.hashers import check_password
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import CsrfViewMiddleware
from django.shortcuts import render, resolve_url
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext, ngettext
from django.views.decorators.debug import sensitive_variables
from django.views.generic.base import ContextMixin, View

from django_mongo_sessions import users
from django_mongo_sessions.conf import conf
from django_mongo_sessions.storage import dates
from django_mongo_sessions.users import UserSession

__all__ = ["AsyncSessionsView", "SessionsView"]


class Call(NamedTuple):
    """A call that does I/O: its blocking form, and the one to be awaited."""

    blocking: Callable[[], Any]
    awaited: Callable[[], Awaitable[Any]]


# What a request needs: it yields calls, is sent what they return, and returns the response.
Steps = Generator[Call, Any, HttpResponse]


class SessionsPage(ContextMixin, View):
    """What SessionsView and AsyncSessionsView share.

    `as_view()` takes the names of the templates, and `extra_context` for them.
    """

    #: The template of the list.
    template_name = "django_mongo_sessions/session_list.html"
    #: The template of the question for the password.
    confirm_template_name = "django_mongo_sessions/session_confirm.html"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Keep the password out of Django's error reports."""
        super().setup(request, *args, **kwargs)
        request.sensitive_post_parameters = ["password"]  # type: ignore[attr-defined]

    def _list(self, request: HttpRequest) -> Steps:
        user = yield _user(request)
        if not user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        sessions = yield _sessions(user, request)
        current = _current(sessions)
        context = {
            "title": gettext("Where you are signed in"),
            "current": current,
            "others": [session for session in sessions if session is not current],
        }
        return (yield from self._page(request, self.template_name, user, context))

    def _end(self, request: HttpRequest) -> Steps:
        rejected: HttpResponse | None = yield _in_thread(_forged, request)
        if rejected is not None:
            return rejected
        user = yield _user(request)
        if not user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        sessions = yield _sessions(user, request)
        current = _current(sessions)
        if current is None:
            return _back(request, messages.ERROR, _read_only())
        if "signout" in request.POST:
            yield _logout(request)
            return _signed_out(request)
        if "again" in request.POST:
            yield _logout(request)  # a login within this session would not make it a new one
            return redirect_to_login(request.get_full_path())
        wanted = _wanted(request)
        chosen = next((each for each in sessions if wanted == ("session", each.id)), None)
        if wanted is None or (wanted[0] == "session" and chosen is None):
            return _back(request, messages.INFO, _nothing())
        if not _is_recent(current):
            is_given = "password" in request.POST
            if not is_given or not (yield _in_thread(_is_password_right, request, user)):
                context = {
                    "title": gettext("Confirm that it is you"),
                    "wanted": wanted,
                    "chosen": chosen,
                    "is_wrong": is_given,
                }
                return (yield from self._page(request, self.confirm_template_name, user, context))
        return (yield from _revoke(request, user, wanted[0], chosen))

    def _page(
        self, request: HttpRequest, template: str, user: Any, context: dict[str, Any]
    ) -> Steps:
        # In a thread, since a site's base template may use the ORM.
        context = self.get_context_data(user=user, **context)
        response: HttpResponse = yield _in_thread(render, request, template, context)
        return response


class SessionsView(SessionsPage):
    """Show the sessions of the user who is signed in, and end them.

    `as_view()` takes `template_name`, `confirm_template_name` and `extra_context`, a dict that is
    added to the context of both.
    """

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the list; redirect visitors who are not signed in to `LOGIN_URL`."""
        return _run(request, self._list(request))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """End what the form names and redirect, or ask for the password."""
        return _run(request, self._end(request))


class AsyncSessionsView(SessionsPage):
    """See SessionsView: the same for an event loop."""

    async def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """See SessionsView.get()."""
        return await _arun(request, self._list(request))

    async def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """See SessionsView.post()."""
        return await _arun(request, self._end(request))


def _run(request: HttpRequest, steps: Steps) -> HttpResponse:
    result = None
    while True:
        try:
            call = steps.send(result)
        except StopIteration as end:
            return _not_stored(request, end.value)
        result = call.blocking()


async def _arun(request: HttpRequest, steps: Steps) -> HttpResponse:
    result = None
    while True:
        try:
            call = steps.send(result)
        except StopIteration as end:
            return _not_stored(request, end.value)
        result = await call.awaited()


def _not_stored(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    patch_cache_control(response, private=True, no_store=True)
    sent: HttpResponse = _CSRF.process_response(request, response)  # with the cookie
    return sent


# As csrf_protect, which knows no coroutines: with Django's middleware, it does nothing more.
_CSRF: Any = CsrfViewMiddleware(lambda request: HttpResponse())


def _forged(request: HttpRequest) -> HttpResponse | None:
    """Return the response to a form of another site; None for one of this page."""
    if not getattr(request, "csrf_processing_done", False):
        _CSRF.process_request(request)
    rejected: HttpResponse | None = _CSRF.process_view(request, _forged, (), {})
    return rejected


def _revoke(request: HttpRequest, user: Any, name: str, chosen: UserSession | None) -> Steps:
    """End the session that was chosen, the others or all, and say so."""
    if chosen is not None:
        ended = yield _twin(
            users.revoke_session, users.arevoke_session, user, chosen.id, request=request
        )
        if ended is None:
            return _back(request, messages.INFO, _nothing())
        text = gettext("Signed out: %(device)s.") % {"device": ended.device}
        return _back(request, messages.SUCCESS, text)
    if name == "others":
        count = yield _twin(users.revoke_other_sessions, users.arevoke_other_sessions, request)
        text = ngettext(
            "%(count)d other device was signed out.",
            "%(count)d other devices were signed out.",
            count,
        )
        return _back(request, messages.SUCCESS, text % {"count": count})
    yield _twin(users.revoke_all_sessions, users.arevoke_all_sessions, user, request=request)
    yield _logout(request)  # sends Django's signal, too
    _tell(request, messages.SUCCESS, gettext("You are signed out on all devices."))
    return _signed_out(request)


# The calls


def _twin(blocking: Callable[..., Any], awaited: Any, *args: Any, **kwargs: Any) -> Call:
    return Call(partial(blocking, *args, **kwargs), partial(awaited, *args, **kwargs))


def _in_thread(function: Callable[..., Any], *args: Any) -> Call:
    return _twin(function, sync_to_async(function), *args)


def _user(request: HttpRequest) -> Call:
    def user() -> Any:
        request.user.is_authenticated  # noqa: B018  # evaluates it
        return request.user

    return Call(user, getattr(request, "auser", None) or sync_to_async(user))


def _logout(request: HttpRequest) -> Call:
    alogout = getattr(auth, "alogout", None)  # Django 5.0
    return _twin(auth.logout, alogout or sync_to_async(auth.logout), request)


def _sessions(user: Any, request: HttpRequest) -> Call:
    return _twin(users.list_sessions, users.alist_sessions, user, request=request)


@sensitive_variables()
def _is_password_right(request: HttpRequest, user: Any) -> bool:
    """Return whether the request has the user's password.

    By Django's blocking authenticate(), so that a backend that counts and refuses attempts does so:
    most of these override nothing else. If that has hashed the same password anew, this session
    goes on, unless something else has ended it since.
    """
    password = request.POST["password"]
    found: Any = auth.authenticate(request, username=user.get_username(), password=password)
    if found != user:
        return False
    before, now = getattr(user, "password", ""), getattr(found, "password", "")
    is_hashed_anew = before != now and check_password(password, before)
    if is_hashed_anew and request.session.get(auth.HASH_SESSION_KEY):
        user.password = now
        request.session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    return True


# What is known of the request


def _current(sessions: list[UserSession]) -> UserSession | None:
    """Return the request's own session.

    None if it is not one of the user's own, since somebody else uses it in the user's name.
    """
    return sessions[0] if sessions and sessions[0].is_current else None


def _is_recent(current: UserSession) -> bool:
    """Return whether the user has signed in lately enough to end sessions."""
    age = conf.REAUTHENTICATE
    return age is None or (dates.utc_now() - current.created_at).total_seconds() < age


def _wanted(request: HttpRequest) -> tuple[str, str] | None:
    """Return the name and the value of the field that says what to end; None if there is none.

    If a form has several of these fields, the one that ends least counts. If it has the same field
    more than once, None is returned.
    """
    for name in ("session", "others", "all"):
        if given := request.POST.getlist(name):
            return (name, given[0]) if len(given) == 1 else None
    return None


# The responses


def _back(request: HttpRequest, level: int, text: str) -> HttpResponse:
    _tell(request, level, text)
    return HttpResponseRedirect(request.get_full_path())


def _tell(request: HttpRequest, level: int, text: str) -> None:
    messages.add_message(request, level, text, fail_silently=True)


def _signed_out(request: HttpRequest) -> HttpResponse:
    if settings.LOGOUT_REDIRECT_URL:
        return HttpResponseRedirect(resolve_url(settings.LOGOUT_REDIRECT_URL))
    return redirect_to_login(request.get_full_path())


def _read_only() -> str:
    return gettext(
        "You are using this account on behalf of its owner. Only the owner can sign out devices."
    )


def _nothing() -> str:
    return gettext("There is no such session any more. Nothing was signed out.")
