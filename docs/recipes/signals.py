from django.core.mail import send_mail
from django.dispatch import receiver

from django_mongo_sessions.signals import session_client_changed, session_revoked


@receiver(session_revoked)
def log_the_end(session, reason, request, **kwargs):
    print(f"{session.device} of user {session.user_id} was signed out ({reason}).")


@receiver(session_client_changed)
def tell_the_user(request, before, after, **kwargs):
    if request is not None and request.user.is_authenticated and request.user.email:
        send_mail("A new device", f"It was {before}, and is {after}.", None, [request.user.email])
