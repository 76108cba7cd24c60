from allauth.account.decorators import reauthentication_required
from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.views.decorators.http import require_POST

from django_mongo_sessions.users import revoke_other_sessions


@require_POST
@login_required
@reauthentication_required  # asks for the password, if that was not given lately
def end_other_sessions(request):
    return JsonResponse({"ended": revoke_other_sessions(request)})
