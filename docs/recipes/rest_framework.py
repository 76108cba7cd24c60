from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from django_mongo_sessions.users import list_sessions, revoke_other_sessions, revoke_session


class Sessions(APIView):
    """GET lists the sessions. DELETE ends all but the request's own."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = (IsAuthenticated,)

    def get(self, request):
        found = list_sessions(request.user, request=request)
        return Response([session.as_dict() for session in found])

    def delete(self, request):
        return Response({"ended": revoke_other_sessions(request)})


class Session(APIView):
    """DELETE ends one session."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = (IsAuthenticated,)

    def delete(self, request, session_id):
        if revoke_session(request.user, session_id, request=request) is None:
            raise NotFound
        return Response(status=204)
