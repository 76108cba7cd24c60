"""What a tracing library sends of a site; tests/test_monitoring.py runs this in its own process.

The arguments are the library's name, its options as JSON, and a database. It prints what was sent,
as JSON.
"""

import json
import os
import sys

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

VALUE = "-".join(["a", "value", "that", "nobody", "may", "see"])  # not in a line of the source


def store(request):
    request.session["basket"] = [VALUE]
    return HttpResponse("stored")


def read(request):
    return HttpResponse(len(request.session["basket"]))


def fail(request):
    request.session["basket"] = object()
    request.session.save()


urlpatterns = [path("store/", store), path("read/", read), path("fail/", fail)]


def sentry(options):
    """Begin to trace, and return a function that returns what was sent."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    sent = []

    class Memory(Transport):
        def capture_envelope(self, envelope):
            sent.extend(item.get_bytes().decode() for item in envelope.items)

    dsn = "https://key@sentry.example/1"
    sentry_sdk.init(dsn=dsn, transport=Memory, traces_sample_rate=1.0, **options)

    def finish():
        sentry_sdk.flush()
        return sent

    return finish


def opentelemetry(options):
    """See sentry()."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    PymongoInstrumentor().instrument(**options)
    DjangoInstrumentor().instrument()
    return lambda: [span.to_json() for span in exporter.get_finished_spans()]


def visit(address, cookie=None):
    """Send a request as a server does, and return the session's key that the response sets."""
    from django.core.wsgi import get_wsgi_application
    from django.test import RequestFactory

    headers = {"HTTP_COOKIE": f"{settings.SESSION_COOKIE_NAME}={cookie}"} if cookie else {}
    given = []
    response = get_wsgi_application()(
        RequestFactory().get(address, **headers).environ,
        lambda status, headers: given.extend(headers),
    )
    b"".join(response)
    response.close()
    cookies = [value for name, value in given if name.lower() == "set-cookie"]
    return cookies[0].partition("=")[2].partition(";")[0] if cookies else None


def main(name, options, database):
    os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
    finish = {"sentry": sentry, "opentelemetry": opentelemetry}[name](json.loads(options))
    settings.ROOT_URLCONF = __name__
    settings.DEBUG = False
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "DATABASE": database, "COALESCE": True}
    settings.SESSION_COOKIE_NAME = "visit"  # which says nothing of a session
    django.setup()
    key = visit("/store/")
    for address in ("/store/", "/read/", "/fail/"):
        visit(address, key)
    print(json.dumps({"key": key, "sent": finish()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
