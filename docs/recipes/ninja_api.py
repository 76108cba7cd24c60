from ninja import NinjaAPI
from ninja.errors import HttpError
from ninja.security import django_auth

from django_mongo_sessions.users import list_sessions, revoke_other_sessions, revoke_session

api = NinjaAPI(auth=django_auth)  # which also checks the CSRF token


@api.get("/sessions")
def sessions(request):
    return [session.as_dict() for session in list_sessions(request.user, request=request)]


@api.delete("/sessions")
def end_others(request):
    return {"ended": revoke_other_sessions(request)}


@api.delete("/sessions/{session_id}")
def end(request, session_id: str):
    if revoke_session(request.user, session_id, request=request) is None:
        raise HttpError(404, "There is no such session.")
    return {"ended": 1}
