"""What `manage.py check` says, id by id."""

from django.core import checks as django_checks

SECRET = "S3CRET"


def said(**kwargs):
    messages = django_checks.run_checks(**kwargs)
    return {message.id.rpartition(".")[2]: message for message in messages if "mongo" in message.id}
