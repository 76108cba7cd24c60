from allauth.account.decorators import reauthentication_required
from django.urls import include, path

from django_mongo_sessions.views import SessionsView

page = reauthentication_required(SessionsView.as_view(), allow_get=True)

urlpatterns = [
    path("account/sessions/", include(([path("", page, name="list")], "mongo_sessions"))),
]
