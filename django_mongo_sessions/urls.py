"""The page of a user's sessions, under the name `mongo_sessions:list`::

path("account/sessions/", include("django_mongo_sessions.urls")),
"""

from __future__ import annotations

from django.urls import path

from django_mongo_sessions.views import SessionsView

app_name = "mongo_sessions"
urlpatterns = [path("", SessionsView.as_view(), name="list")]
