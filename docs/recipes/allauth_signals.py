from allauth.account.signals import password_changed, password_reset
from django.dispatch import receiver

from django_mongo_sessions.users import revoke_all_sessions, revoke_other_sessions


@receiver(password_reset)
def end_all_sessions(request, user, **kwargs):
    revoke_all_sessions(user, request=request)


@receiver(password_changed)
def end_other_sessions(request, user, **kwargs):
    revoke_other_sessions(request)
