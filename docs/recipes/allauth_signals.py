from allauth.account.signals import password_reset
from django.dispatch import receiver

from django_mongo_sessions.users import revoke_all_sessions


@receiver(password_reset)
def end_all_sessions(request, user, **kwargs):
    revoke_all_sessions(user, request=request)
