from django.contrib.auth import authenticate, login, logout
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response
from rest_framework.views import APIView


# SessionAuthentication checks the token of signed-in users only.
@method_decorator(csrf_protect, name="dispatch")
class SignIn(APIView):
    """POST signs in, and DELETE signs out."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = ()

    def post(self, request):
        name, password = request.data.get("username"), request.data.get("password")
        user = authenticate(request, username=name, password=password)
        if user is None:
            raise PermissionDenied
        login(request, user)
        return Response(status=204)

    def delete(self, request):
        logout(request)
        return Response(status=204)
