from allauth.headless.contrib.rest_framework.authentication import XSessionTokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from django_mongo_sessions.users import list_sessions, revoke_other_sessions


class Sessions(APIView):
    """GET lists the sessions. DELETE ends all but the one that the token names."""

    authentication_classes = (XSessionTokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        request.session = request.auth  # the session of the token, and not that of a cookie

    def get(self, request):
        found = list_sessions(request.user, request=request)
        return Response([session.as_dict() for session in found])

    def delete(self, request):
        return Response({"ended": revoke_other_sessions(request)})
