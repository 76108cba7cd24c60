"""The response to a request whose session MongoDB could not serve."""

from __future__ import annotations

import math
import re

from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist, loader
from django.utils.log import log_response
from django.views.debug import technical_500_response
from django.views.defaults import ERROR_PAGE_TEMPLATE

from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection.breaker import PROBE_INTERVAL

_STATUS = 503
_RETRY_AFTER = str(math.ceil(PROBE_INTERVAL))  # seconds
# The headers of a response that describe its body, let a proxy send another one, say how long it
# may be cached, or set a cookie.
_OF_ITS_OWN = re.compile(
    r"content-(?!security-policy)|transfer-encoding|x-accel-|x-sendfile|set-cookie"
    r"|.*(cache|surrogate)-control|(etag|expires|last-modified)$",
    re.IGNORECASE,
)


def unavailable(
    request: HttpRequest, error: BaseException, page: HttpResponse | None = None
) -> HttpResponse:
    """Return a 503: the site's `503.html`, or else a plain page. Log the error once.

    `page` is the response that it replaces: Django's page for an error, which Django has logged, or
    a view's own, which it has not. Its headers are kept, as far as they fit another body, but not
    its cookies. With DEBUG, that page is returned as a 503. If there is none, Django's page with
    the traceback is. Like Django's `500.html`, the template is rendered without a context.
    """
    if not conf.DEBUG:
        response = HttpResponse(_page(), headers=_kept_headers(page))
    elif page is not None:
        response = page
    else:
        response = technical_500_response(request, type(error), error, error.__traceback__)
    response.status_code = _STATUS
    response.headers["Retry-After"] = _RETRY_AFTER
    response._has_been_logged = getattr(page, "_has_been_logged", False)  # type: ignore[attr-defined]
    log_response(  # does nothing if that is set
        "Service Unavailable: %s",
        request.path,
        response=response,
        request=request,
        exception=error,
    )
    return response


def _kept_headers(page: HttpResponse | None) -> dict[str, str]:
    """Return what middlewares have said of a response, such as the headers of CORS."""
    headers = () if page is None else page.items()
    return {name: value for name, value in headers if not _OF_ITS_OWN.match(name)}


def _page() -> str:
    try:
        template = loader.get_template(f"{_STATUS}.html")
    except TemplateDoesNotExist:
        return ERROR_PAGE_TEMPLATE % {"title": f"Service Unavailable ({_STATUS})", "details": ""}
    return template.render()
