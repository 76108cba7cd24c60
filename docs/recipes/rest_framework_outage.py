from pymongo.errors import ConnectionFailure
from rest_framework import views
from rest_framework.exceptions import APIException


class Unavailable(APIException):
    status_code = 503
    default_detail = "The service is not available. Please try again in a moment."
    default_code = "unavailable"
    wait = 1  # seconds, for the header Retry-After


def exception_handler(error, context):
    if isinstance(error, ConnectionFailure):
        error = Unavailable()
    return views.exception_handler(error, context)  # also undoes the request's transaction
