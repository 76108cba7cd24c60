"""The app: binds the checks, and creates the index with `migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS
from django.db.models.signals import post_migrate

from django_mongo_sessions import checks, indexes
from django_mongo_sessions.driving import drive


class MongoSessionsConfig(AppConfig):
    """`django_mongo_sessions` in INSTALLED_APPS."""

    name = "django_mongo_sessions"
    verbose_name = "Sessions in MongoDB"

    def ready(self) -> None:
        """Bind what the app adds. Nothing connects."""
        checks.register()
        post_migrate.connect(create_indexes, sender=self)


def create_indexes(using: str = DEFAULT_DB_ALIAS, **kwargs: Any) -> None:
    """Create the TTL index where it is missing. An outage is a warning: it stops no `migrate`.

    Once for a `migrate`, and not for the `flush` that Django's tests send the same signal for,
    which has no plan.
    """
    if using != DEFAULT_DB_ALIAS or "plan" not in kwargs:
        return
    drive(indexes.ensuring())
