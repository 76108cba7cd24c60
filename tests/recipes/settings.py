"""The settings of a site with the package that RECIPE names, in a process of its own."""

import os

from testproject.settings import *  # noqa: F403
from testproject.settings import INSTALLED_APPS, MIDDLEWARE

RECIPE = os.environ["RECIPE"]
ROOT_URLCONF = "tests.recipes.urls"
LOGIN_URL = "/in/"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/hello/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def real_address(request):
    """Return the address that this site's proxy has put into a header."""
    return request.META.get("HTTP_X_REAL_IP")  # none if no browser has sent the request


if RECIPE == "rest_framework":
    INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework"]
    REST_FRAMEWORK = {
        "EXCEPTION_HANDLER": "docs.recipes.rest_framework_outage.exception_handler",
    }
elif RECIPE == "allauth":
    INSTALLED_APPS = [
        *INSTALLED_APPS,
        *("allauth", "allauth.account", "allauth.headless", "allauth.mfa", "allauth.usersessions"),
        *("django.contrib.humanize", "rest_framework"),
    ]
    MIDDLEWARE = [*MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"]
    AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
    ACCOUNT_EMAIL_VERIFICATION = "none"
    ACCOUNT_LOGIN_BY_CODE_ENABLED = True
    ACCOUNT_RATE_LIMITS = False
elif RECIPE == "channels":
    INSTALLED_APPS = [*INSTALLED_APPS, "channels"]
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
elif RECIPE == "axes":
    INSTALLED_APPS = [*INSTALLED_APPS, "axes"]
    MIDDLEWARE = [*MIDDLEWARE, "axes.middleware.AxesMiddleware"]
    AUTHENTICATION_BACKENDS = [
        "axes.backends.AxesStandaloneBackend",
        "django.contrib.auth.backends.ModelBackend",
    ]
    AXES_CLIENT_IP_CALLABLE = real_address
elif RECIPE == "hijack":
    INSTALLED_APPS = [*INSTALLED_APPS, "hijack"]
    MIDDLEWARE = [*MIDDLEWARE, "hijack.middleware.HijackUserMiddleware"]
