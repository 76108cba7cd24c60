"""The URLs of a site with the package that RECIPE names."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path


def hello(request):
    request.session.modified = True  # so that it is stored
    return HttpResponse(get_token(request))


urlpatterns = [
    path("hello/", hello, name="index"),  # where the demo's template leads
    path("admin/", admin.site.urls),
]

if settings.RECIPE == "rest_framework":
    from docs.recipes.rest_framework import Session, Sessions
    from docs.recipes.rest_framework_sign_in import SignIn

    urlpatterns += [
        path("session", SignIn.as_view()),
        path("sessions", Sessions.as_view()),
        path("sessions/<session_id>", Session.as_view()),
    ]
elif settings.RECIPE == "ninja":
    from docs.recipes.ninja_api import api

    urlpatterns.append(path("", api.urls))
elif settings.RECIPE == "allauth":
    import docs.recipes.allauth_signals  # noqa: F401  # connects its receiver
    from docs.recipes.allauth_tokens import Sessions as AppSessions
    from docs.recipes.allauth_views import end_other_sessions

    urlpatterns += [
        path("accounts/", include("allauth.urls")),
        path("_allauth/", include("allauth.headless.urls")),
        path("api/sessions", AppSessions.as_view()),
        path("others/", end_other_sessions),
        path("", include("docs.recipes.allauth_page")),
    ]
elif settings.RECIPE == "channels":
    urlpatterns.append(path("out/", LogoutView.as_view()))
elif settings.RECIPE == "axes":
    from django_mongo_sessions.views import AsyncSessionsView, SessionsView

    urlpatterns += [
        path("page/", SessionsView.as_view()),
        path("apage/", AsyncSessionsView.as_view()),
    ]
elif settings.RECIPE == "hijack":
    urlpatterns += [
        path("hijack/", include("hijack.urls")),
        path("page/", include("django_mongo_sessions.urls")),
    ]
