"""The app: registers the checks, and creates the index with `migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS
from django.db.models.signals import post_migrate

from django_mongo_sessions import checks
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run


class MongoSessionsConfig(AppConfig):
    """`django_mongo_sessions` in INSTALLED_APPS."""

    name = "django_mongo_sessions"
    verbose_name = "Sessions in MongoDB"

    def ready(self) -> None:
        """Register the checks and the signal handler. Nothing connects."""
        checks.register()
        post_migrate.connect(create_indexes, sender=self)


def create_indexes(using: str = DEFAULT_DB_ALIAS, **kwargs: Any) -> None:
    """Create the TTL index if it is missing. An outage is a warning, and never stops `migrate`.

    It runs once for each `migrate`, and not for the `flush` of Django's tests, which sends the same
    signal without a plan.
    """
    if using != DEFAULT_DB_ALIAS or "plan" not in kwargs:
        return
    run(indexes.ensure())
