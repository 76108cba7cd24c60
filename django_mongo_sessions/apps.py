"""The app: registers the checks, creates the indexes with `migrate`, and follows accounts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from functools import partial
from typing import Any

from bson.errors import InvalidBSON
from django.apps import AppConfig, apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models.signals import post_delete, post_migrate, post_save
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest
from pymongo.errors import PyMongoError

from django_mongo_sessions import checks
from django_mongo_sessions.checks.settings import uses_engine
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import errors
from django_mongo_sessions.connection.addresses import remember_live_names
from django_mongo_sessions.mongo import indexes
from django_mongo_sessions.mongo.runner import run

logger = logging.getLogger("django_mongo_sessions")


class MongoSessionsConfig(AppConfig):
    """`django_mongo_sessions` in INSTALLED_APPS."""

    name = "django_mongo_sessions"
    verbose_name = "Sessions in MongoDB"

    def ready(self) -> None:
        """Register the checks and the receivers of signals. Nothing connects."""
        checks.register()
        remember_live_names()
        post_migrate.connect(create_indexes, sender=self)
        user_logged_in.connect(remember_client, dispatch_uid=self.name)
        post_save.connect(follow_account, dispatch_uid=self.name)
        # Django deletes rows one by one where a model has a receiver, so no other model gets one.
        for model in filter(_is_user_model, apps.get_models()):
            post_delete.connect(follow_account, sender=model, dispatch_uid=self.name)


def create_indexes(using: str = DEFAULT_DB_ALIAS, verbosity: int = 0, **kwargs: Any) -> None:
    """Create the indexes that are missing. An outage is a warning, and never stops `migrate`.

    It runs once for each `migrate`, and not for the `flush` of Django's tests, which sends the same
    signal without a plan.
    """
    if using != DEFAULT_DB_ALIAS or "plan" not in kwargs:
        return
    try:
        created = run(indexes.ensure())
    except PyMongoError as error:  # raised by a CLIENT that connects when it is called
        logger.warning(
            "The indexes on the collection %r were not created: %s. Run `manage.py mongosessions "
            "indexes --apply`.",
            conf.COLLECTION,
            errors.explain(error),
        )
        return
    if created is None:  # the next call would fail as well, and wait as long
        return
    created += run(indexes.ensure_user_index())
    if verbosity >= 1:
        stdout: Any = kwargs.get("stdout", sys.stdout)
        for name in created:
            stdout.write(f"Created the index {name} on the collection {conf.COLLECTION!r}.\n")


def remember_client(request: HttpRequest | None = None, user: Any = None, **kwargs: Any) -> None:
    """Let a sign-in record its client, also with Django's own middleware.

    With MAX_SESSIONS, also tell the session which hashes are the user's: sessions that a new
    password has ended are the first to go.
    """
    from django_mongo_sessions.middleware.client_info import ClientInfo
    from django_mongo_sessions.middleware.deferred import own_session
    from django_mongo_sessions.users import hashes_of

    session = None if request is None else own_session(request)
    # The middleware's refers to the request that lives longest: Django REST framework signs in with
    # one of its own.
    if request is not None and session is not None and session._client is None:
        session._client = ClientInfo(request)
    if session is not None and user is not None and conf.MAX_SESSIONS is not None:
        session._user_hashes = hashes_of(user)


def follow_account(
    sender: Any,
    instance: Any,
    using: str,
    created: bool = False,
    raw: bool = False,
    update_fields: Collection[str] | None = None,
    **kwargs: Any,
) -> None:
    """End the sessions of a user who is deleted, or saved as inactive, once that is committed."""
    from django_mongo_sessions.users import id_of

    if created or raw or not _is_user_model(sender) or not conf.REVOKE_WITH_ACCOUNT:
        return
    if update_fields is not None and "is_active" not in update_fields:
        return
    if (kwargs["signal"] is post_delete or _is_inactive(instance)) and uses_engine():
        # Now, since Django takes the id of a deleted object away.
        revoke = partial(_revoke, id_of(instance))
        try:
            transaction.on_commit(revoke, using=using)
        except TransactionManagementError:  # the site commits by itself, and Django does not see it
            revoke()


def _is_user_model(sender: Any) -> bool:
    """Return whether a model is the user model, a proxy of it, or derives from it."""
    try:
        return issubclass(sender, get_user_model())
    except ImproperlyConfigured:  # the site has no users
        return False


def _is_inactive(user: Any) -> bool:
    return getattr(user, "is_active", True) is False


def _revoke(user_id: str) -> None:
    from django_mongo_sessions.engine import signed_in

    try:
        run(signed_in.revoke(user_id, lambda found: True, "account"))
    except (PyMongoError, InvalidBSON, ImproperlyConfigured) as error:
        logger.warning(
            "The user %s was deleted or deactivated, but the sessions could not be ended: %s. Run "
            "`manage.py mongosessions revoke --user` with that id.",
            user_id,
            error,
        )
