"""The demo's URLs: the article's two views, their async versions, the page and the admin."""

from __future__ import annotations

import django
from django.contrib import admin
from django.urls import path

from testproject import views

urlpatterns = [
    path("", views.index, name="index"),
    path("do/<slug:name>/", views.do, name="do"),
    path("race/", views.race, name="race"),
    path("setsession/", views.SetSession, name="setsession"),
    path("getsession/", views.GetSession, name="getsession"),
    path("admin/", admin.site.urls),
]

if django.VERSION >= (5, 1):  # the first with aget() and aset()
    urlpatterns += [
        path("asetsession/", views.ASetSession, name="asetsession"),
        path("agetsession/", views.AGetSession, name="agetsession"),
    ]
