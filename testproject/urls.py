"""The demo's URLs: the article's two views, their async versions, the pages and the admin."""

from __future__ import annotations

import django
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from testproject import views

urlpatterns = [
    path("", views.index, name="index"),
    path("do/<slug:name>/", views.do, name="do"),
    path("try/<slug:name>/", views.experiment, name="experiment"),
    path("mongodb/", views.mongodb, name="mongodb"),
    path("mongodb/stop/", views.stop, name="stop"),
    path("mongodb/start/", views.start, name="start"),
    path("docs/<slug:name>.md", views.docs, name="docs"),
    path("setsession/", views.SetSession, name="setsession"),
    path("getsession/", views.GetSession, name="getsession"),
    path("signin/", LoginView.as_view(template_name="testproject/signin.html"), name="signin"),
    path("signout/", LogoutView.as_view(), name="signout"),
    path("account/sessions/", include("django_mongo_sessions.urls")),
    path("admin/", admin.site.urls),
]

if django.VERSION >= (5, 1):  # the first with aget() and aset()
    urlpatterns += [
        path("asetsession/", views.ASetSession, name="asetsession"),
        path("agetsession/", views.AGetSession, name="agetsession"),
    ]
