"""What `manage.py check` reports. Only the checks tagged `database` do any I/O."""

from __future__ import annotations

from django.core import checks

from django_mongo_sessions.checks.messages import check_apps
from django_mongo_sessions.checks.server import check_server, check_table
from django_mongo_sessions.checks.settings import (
    check_cookies,
    check_encryption,
    check_engine,
    check_keys,
    check_password,
    check_serializer,
    check_settings,
    check_tls,
)


def register() -> None:
    """Register the checks with Django."""
    for check in (check_settings, check_engine, check_serializer, check_apps, check_keys):
        checks.register(check)
    for check in (check_tls, check_password, check_cookies, check_encryption):
        checks.register(check, checks.Tags.security, deploy=True)
    for check in (check_server, check_table):
        checks.register(check, checks.Tags.database)
