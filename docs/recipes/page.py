from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render

from django_mongo_sessions.users import list_sessions, revoke_other_sessions, revoke_session


@login_required
def sessions(request):
    if request.method == "POST":
        if "others" in request.POST:
            revoke_other_sessions(request)
        else:
            revoke_session(request.user, request.POST.get("session"), request=request)
        return redirect("sessions")
    found = list_sessions(request.user, request=request)
    return render(request, "sessions.html", {"sessions": found})
