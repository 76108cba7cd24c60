# mysite/views.py
from django.http import JsonResponse

from django_mongo_sessions import SessionConflict


def set_address(request):
    request.session["address"] = request.POST["address"]
    try:
        request.session.save()
    except SessionConflict as conflict:
        request.session.modified = False  # else the middleware saves again, and returns 400
        return JsonResponse({"changed elsewhere": conflict.keys}, status=409)
    return JsonResponse({})
