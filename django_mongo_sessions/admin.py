"""Registers the list of sessions with the admin site that Django discovers.

It does so if the engine is this package's, and if no other app has registered the model. Import
nothing from here, since that registers.
"""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.apps import AdminConfig

from django_mongo_sessions.checks.settings import uses_engine
from django_mongo_sessions.modeladmin import SessionAdmin


def register() -> None:
    """Register the list, after the admin modules of all other apps."""
    if not (apps.is_installed("django.contrib.sessions") and uses_engine()):
        return
    if isinstance(apps.get_app_config("admin"), AdminConfig):
        admin.autodiscover()  # also the apps that are listed after this one
    from django.contrib.sessions.models import Session

    if not admin.site.is_registered(Session):
        admin.site.register(Session, SessionAdmin)


register()
