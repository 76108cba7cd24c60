from pymongo.errors import ConnectionFailure
from rest_framework import views
from rest_framework.response import Response


def exception_handler(error, context):
    if isinstance(error, ConnectionFailure):
        detail = "The service is not available. Please try again in a moment."
        return Response({"detail": detail}, status=503, headers={"Retry-After": "1"})
    return views.exception_handler(error, context)
