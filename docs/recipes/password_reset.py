from django.contrib.auth import views

from django_mongo_sessions.users import revoke_all_sessions


class PasswordResetConfirmView(views.PasswordResetConfirmView):
    def form_valid(self, form):
        response = super().form_valid(form)  # saves the new password
        revoke_all_sessions(self.user, request=self.request)
        return response
