"""MongoDB is down: which response a request gets, and which calls are not made again."""

import asyncio
import logging
import socket
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import clear_url_caches, path
from django.utils.decorators import sync_and_async_middleware
from django.utils.http import http_date
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients
from django_mongo_sessions.engine import mapping
from django_mongo_sessions.engine.session import Content
from django_mongo_sessions.exceptions import ServerUnavailable
from django_mongo_sessions.mongo import operations, runner
from testproject import mongod
from tests.conftest import browser, end
from tests.engine.helpers import outcome

NOWHERE = {
    "URI": "mongodb://127.0.0.1:1",
    "TIMEOUT": 0.1,
}
OURS = "django_mongo_sessions.middleware.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
KEY = "0123456789abcdefghijklmnopqrstuv"
SECRET = "a value that nobody may see"


def reads(request):
    return HttpResponse(request.session.get("a", "nothing"))


async def areads(request):
    return HttpResponse((await request.session.aload()).get("a", "nothing"))  # 4.2 has no aget()


def writes(request):
    request.session["a"] = 2
    return HttpResponse("written")


def saves_later(request):
    """Leave the save to the middleware, which finds MongoDB down."""
    request.session._session_cache = {"a": 2}
    request.session.modified = True
    return HttpResponse("written")


async def asaves_later(request):
    return saves_later(request)


def copes(request):
    try:
        request.session.get("a")
    except ConnectionFailure:
        return HttpResponse("without a session", status=int(request.GET.get("status", 200)))


def compressed(request):
    """Return a page that is compressed, and cached, in spite of the outage."""
    with suppress(ConnectionFailure):
        request.session.get("a")
    headers = {"Cache-Control": "public, max-age=60", "ETag": '"1"', "Content-Language": "en"}
    headers |= {"Last-Modified": http_date(0), "Expires": http_date(2**32)}
    headers |= {"CDN-Cache-Control": "max-age=60", "Surrogate-Control": "max-age=60"}
    headers |= {"Transfer-Encoding": "chunked", "Set-Cookie": "seen=1"}
    headers |= {"X-Accel-Redirect": "/sorry.html", "X-Sendfile": "/srv/sorry.html"}
    return HttpResponse("sorry " * 100, status=500, headers=headers)


def asks_again(request):
    for _ in range(3):
        try:
            request.session.get("a")
        except ConnectionFailure as error:
            last = error
    raise last


def moves(request):
    """Sign in; then the middleware's save finds MongoDB down."""
    session = request.session
    session._session_key = KEY
    session._session_cache = {"a": 1}
    steps = mapping.new(session, "n" * 32, b"n", Content({"a": 1}, b'{"a":1}'), None)
    written = outcome(steps)[1]
    session._session_key = written.key
    session._known.snapshot = written._replace(data=session._session_cache)
    session["_auth_user_id"] = "7"
    return HttpResponse("signed in")


def sets(request):
    request.session["a"] = SECRET
    return HttpResponse("set")


def another(request):
    """Use a session whose key came in a header, as APIs do."""
    return HttpResponse(SessionStore(KEY).get("a", "nothing"))


async def aanother(request):
    return HttpResponse((await SessionStore(KEY).aload()).get("a", "nothing"))


def replaces(request):
    """Put another session in the place of the request's."""
    request.session = SessionStore(KEY)
    return reads(request)


def own_client(request):
    """Call MongoDB for something that is no session."""
    with MongoClient(NOWHERE["URI"], serverSelectionTimeoutMS=1) as client:
        client.admin.command("ping")


def streams(request):
    """Use the session again when the request is over."""
    with suppress(ConnectionFailure):
        request.session.get("a")

    def body():
        try:
            request.session.get("a")
        except ConnectionFailure as error:
            yield str(error)

    return StreamingHttpResponse(body())


def tells(request):
    """Show what the session raises in the page of an error."""
    try:
        return nosy(request)
    except ConnectionFailure as error:
        return HttpResponse(str(error), status=400)


def nosy(request):
    """An error page that greets the visitor by name."""
    return HttpResponse(request.session.get("name", ""), status=500)


async def agets(request):
    return HttpResponse((await request.session._aget_session()).get("a", "nothing"))


def greets(request):
    return HttpResponse("hello" if request.user.is_authenticated else "who are you")


def shows_messages(request):
    return HttpResponse(list(messages.get_messages(request)))


def reraises(request):
    try:
        request.session.get("a")
    except ConnectionFailure as error:
        raise ValueError("no cart") from error


def handles(request):
    """Use the session while an error of the view's own is handled."""
    try:
        raise AutoReconnect("a:1: cut") from OSError("cut")
    except AutoReconnect as error:
        with suppress(ConnectionFailure):
            request.session.get("a")
        return HttpResponse(repr(error.__cause__))


async def ahandles(request):
    try:
        raise AutoReconnect("a:1: cut") from OSError("cut")
    except AutoReconnect as error:
        with suppress(ConnectionFailure):
            await request.session.aload()
        return HttpResponse(repr(error.__cause__))


def breaks_later(request):
    with suppress(ConnectionFailure):
        request.session.get("a")
    raise ValueError("a fault of the view's")


def plain(request):
    return HttpResponse("plain")


def breaks(request):
    raise ValueError("a fault of the view's")


urlpatterns = [
    *(path(view.__name__, view) for view in (reads, areads, writes, saves_later, asaves_later)),
    *(path(view.__name__, view) for view in (copes, asks_again, plain, breaks)),
    *(path(view.__name__, view) for view in (moves, sets, streams, reraises, breaks_later)),
    *(path(view.__name__, view) for view in (agets, greets, shows_messages, handles, ahandles)),
    *(path(view.__name__, view) for view in (compressed, another, aanother, replaces, own_client)),
]
handler500 = "django.views.defaults.server_error"


@sync_and_async_middleware
def early(get_response):
    """A middleware that uses the session before any view."""

    def middleware(request):
        if "early" in request.GET:
            request.session.get("a")
        return get_response(request)

    async def amiddleware(request):
        if "early" in request.GET:
            await request.session.aload()
        return await get_response(request)

    return amiddleware if iscoroutinefunction(get_response) else middleware


@sync_and_async_middleware
def cors(get_response):
    """A middleware that lets another origin read each response, and sets a cookie."""

    def changed(response):
        response["Access-Control-Allow-Origin"] = "*"
        response["Content-Security-Policy"] = "default-src 'self'"
        response.set_cookie("seen", "1")
        return response

    def middleware(request):
        return changed(get_response(request))

    async def amiddleware(request):
        return changed(await get_response(request))

    return amiddleware if iscoroutinefunction(get_response) else middleware


@pytest.fixture
def site(settings, soon_told):
    settings.ROOT_URLCONF = __name__
    settings.SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
    settings.MONGO_SESSIONS = NOWHERE
    settings.TEMPLATES = []
    settings.MIDDLEWARE = [
        "django_mongo_sessions.middleware.SessionMiddleware",
        f"{__name__}.early",
    ]
    yield settings
    clients.reset()


@pytest.fixture(params=["blocking", "asynchronous", "threads"])
def get(request, site):
    """Request a page as a browser with a cookie."""
    site.MONGO_SESSIONS = {
        **NOWHERE,
        "ASYNC": "native" if request.param == "asynchronous" else "threads",
        "CLIENT_OPTIONS": {"serverMonitoringMode": "poll"},
    }
    with browser(KEY, is_async=request.param != "blocking") as get:
        yield get


@pytest.fixture
def asked(monkeypatch):
    """The calls to MongoDB, by name."""
    calls = []
    for name in ("find", "insert", "update", "delete"):
        monkeypatch.setattr(operations, name, counted(name, getattr(operations, name), calls))
    return calls


def counted(name, real, calls):
    """Return a function that makes the same operation, and notes its name when it is called."""

    def made(*args, **kwargs):
        operation = real(*args, **kwargs)

        def call(sessions):
            calls.append(name)
            return operation.call(sessions)

        return replace(operation, call=call)

    return made


PAGES = ["/reads", "/areads", "/writes", "/saves_later", "/asaves_later", "/asks_again"]


@pytest.mark.parametrize("url", [*PAGES, "/plain?early"])
def test_the_response_is_a_503_with_retry_after_and_no_cookie(get, url):
    answer = get(url)

    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    assert b"Service Unavailable" in answer.content
    assert not answer.cookies


@pytest.mark.parametrize("middleware", [OURS, DJANGOS])
def test_it_has_the_headers_that_a_500_would_have(get, site, middleware):
    site.MIDDLEWARE = [middleware, f"{__name__}.cors", "django.middleware.locale.LocaleMiddleware"]

    for url in ("/reads", "/areads", "/copes?status=500"):
        answer = get(url)
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert answer["Content-Security-Policy"] == "default-src 'self'"
        assert "Accept-Language" in answer["Vary"]
    # This one comes from above the other middlewares, as that of any error in the session's.
    assert "Access-Control-Allow-Origin" not in get("/saves_later")


def test_it_has_no_headers_about_the_page_that_it_replaces(get, site):
    site.MIDDLEWARE = [
        OURS,
        "django.middleware.common.CommonMiddleware",
        f"{__name__}.cors",
        "django.middleware.gzip.GZipMiddleware",
    ]

    answer = get("/compressed")

    assert set(answer.headers) == {
        *("Access-Control-Allow-Origin", "Content-Security-Policy", "Content-Type"),
        *("Retry-After", "Vary"),
    }
    assert not answer.cookies


@pytest.mark.parametrize("url", ["/reads", "/saves_later"])
def test_the_sites_own_page_is_shown(get, site, url, tmp_path):
    (tmp_path / "503.html").write_text("Back {{ user }}soon.")
    backend = "django.template.backends.django.DjangoTemplates"
    site.TEMPLATES = [{"BACKEND": backend, "DIRS": [tmp_path]}]

    assert get(url).content == b"Back soon."


@pytest.mark.parametrize("url", ["/reads", "/saves_later"])
def test_with_debug_the_page_shows_the_error_to_the_developer(get, site, url):
    site.DEBUG = True

    answer = get(url)

    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    assert b"127.0.0.1:1" in answer.content


@pytest.mark.parametrize("url", ["/asks_again", "/reads", "/saves_later", "/plain?early"])
def test_mongodb_is_called_once_per_request(get, asked, url):
    get(url)

    assert len(asked) == 1


def test_pages_without_the_session_work_as_usual(get):
    get("/reads")

    assert get("/plain").content == b"plain"


@pytest.mark.parametrize("saves_always", [True, False])
def test_a_view_that_handles_the_error_returns_its_own_response(get, site, saves_always):
    site.SESSION_SAVE_EVERY_REQUEST = saves_always

    assert get("/copes").content == b"without a session"
    assert get("/copes?status=404").status_code == 404
    assert get("/copes?status=500").status_code == 503


@pytest.mark.parametrize("url", ["/another", "/aanother", "/replaces"])
def test_an_outage_that_another_session_meets_is_a_503_too(get, url):
    answer = get(url)

    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"


@pytest.mark.parametrize("url", ["/breaks", "/own_client"])
def test_an_error_of_the_views_own_stays_a_500(get, url):
    assert get(url).status_code == 500


def test_an_error_with_another_engine_is_left_to_django(get, site):
    site.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

    assert get("/breaks").status_code == 500


TRACEBACK = "Traceback (most recent call last)"


@pytest.fixture
def records(site, caplog):
    """What Django logs of a request to a site with users and messages."""
    site.MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
    site.MIDDLEWARE += [
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    return lambda: [record for record in caplog.records if record.name == "django.request"]


def formatted(record):
    return logging.Formatter().format(record)


@pytest.mark.parametrize("middleware", [OURS, DJANGOS])
def test_a_request_leaves_one_record_with_one_traceback(get, site, records, middleware, caplog):
    site.MIDDLEWARE[0] = middleware
    # In the last one, two middlewares meet the outage after the view.
    for url in ["/reads", "/agets", "/saves_later", "/greets", "/shows_messages"]:
        caplog.clear()
        get(url)

        [record] = records()
        assert record.levelname == "ERROR"
        assert url in record.getMessage()
        assert formatted(record).count(TRACEBACK) == 1
        assert "MongoDB is down at 127.0.0.1:1: " in formatted(record)


def test_an_error_of_the_views_own_shows_the_outage_that_it_was_raised_from(get, records):
    get("/reraises")

    [record] = records()
    assert formatted(record).count(TRACEBACK) == 2
    assert "direct cause" in formatted(record)


@pytest.mark.parametrize("url", ["/handles", "/ahandles"])
def test_an_error_that_a_view_is_handling_keeps_its_cause(get, url):
    assert get(url).content == b"OSError('cut')"


def test_a_page_of_the_views_own_is_logged_with_the_outage(get, records):
    get("/copes?status=500")

    [record] = records()
    assert record.exc_info[0] is ServerUnavailable
    assert "MongoDB is down at 127.0.0.1:1: " in str(record.exc_info[1])


def test_a_fault_of_a_view_that_handles_the_outage_is_what_is_logged(get, records):
    assert get("/breaks_later").status_code == 503

    [record] = records()
    assert record.exc_info[0] is ValueError


def test_an_error_after_the_outage_is_logged_too(get, records, monkeypatch):
    monkeypatch.setattr(messages.storage.base.BaseStorage, "update", lambda *args: breaks(None))

    get("/reads")

    assert [record.exc_info[0] for record in records()] == [ServerSelectionTimeoutError, ValueError]


def test_a_refused_call_names_the_first_error_alone(get, monkeypatch):
    monkeypatch.setitem(globals(), "handler500", tells)
    clear_url_caches()

    said = get("/asks_again").content.decode()

    assert said.count("is not tried again") == 1
    assert "ended in ServerSelectionTimeoutError: MongoDB is down at 127.0.0.1:1: " in said


@pytest.mark.parametrize(("view", "shown"), [("reads", 1), ("reraises", 2)])
def test_an_error_page_that_meets_the_outage_again_is_not_what_is_logged(
    get, records, monkeypatch, view, shown
):
    monkeypatch.setitem(globals(), "handler500", nosy)
    clear_url_caches()

    get(f"/{view}")

    [record] = records()
    assert formatted(record).count(TRACEBACK) == shown
    assert f"in {view}" in formatted(record)
    assert nosy.__name__ not in formatted(record)


def test_with_djangos_middleware_the_server_is_told_of_that_page_and_of_the_first_error(
    get, site, records, monkeypatch
):
    site.MIDDLEWARE[0] = DJANGOS
    monkeypatch.setitem(globals(), "handler500", nosy)
    clear_url_caches()

    with pytest.raises(ServerUnavailable) as raised:  # each middleware has shown that page
        get("/reads")

    # asyncio raises the last one again, while the one before is handled.
    assert "".join(traceback.format_exception(raised.value)).count(TRACEBACK) <= 3


def test_an_error_that_is_not_an_outage_is_raised(get, monkeypatch):
    def refuse(sessions):
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(
        operations, "insert", lambda document: runner.Operation(refuse, lambda reply: reply)
    )
    monkeypatch.setattr(
        operations, "find", lambda *args: runner.Operation(refuse, lambda reply: reply)
    )

    assert get("/saves_later").status_code == 500
    assert get("/reads").status_code == 500


def test_an_error_page_that_meets_the_outage_again_is_a_503_too(get, site, monkeypatch):
    monkeypatch.setitem(globals(), "handler500", nosy)
    clear_url_caches()

    answer = get("/reads")

    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"


@pytest.mark.parametrize("url", ["/reads", "/saves_later"])
def test_errors_are_propagated_with_DEBUG_PROPAGATE_EXCEPTIONS(get, site, url):
    site.DEBUG_PROPAGATE_EXCEPTIONS = True

    with pytest.raises(ConnectionFailure):
        get(url)


def test_a_session_that_has_moved_gives_the_browser_its_new_key(get):
    answer = get("/moves")

    assert answer.status_code == 503
    assert answer.cookies["sessionid"].value == "n" * 32
    assert answer.cookies["sessionid"]["max-age"] > 0
    assert "Cookie" in answer["Vary"]


def test_a_value_that_was_being_set_is_not_shown(get, site):
    site.DEBUG = True

    assert SECRET not in get("/sets").content.decode()


def test_after_the_request_the_session_calls_mongodb_again(get):
    answer = get("/streams")
    body = b"".join(answer) if not answer.is_async else b""

    assert b"of this request" not in body


def test_the_page_of_a_view_that_handles_the_error_varies_on_the_cookie(get):
    assert "Cookie" in get("/copes")["Vary"]


def test_a_store_outside_a_request_calls_mongodb_again(site, asked):
    store = SessionStore(KEY)
    for _ in range(2):
        with pytest.raises(ConnectionFailure):
            store.load()

    # The breaker decides about the second call, and lets none wait.
    assert asked == ["find"]


@pytest.fixture
def silent_uri():
    """The URI of a server that accepts connections and never replies."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"mongodb://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("form", ["blocking", "asynchronous"])
def test_a_server_that_never_replies_leaves_nothing_behind(settings, silent_uri, form):
    options = {"connectTimeoutMS": 500}
    settings.MONGO_SESSIONS = {
        "URI": silent_uri,
        "TIMEOUT": 0.5,
        "ASYNC": "native",
        "CLIENT_OPTIONS": options,
    }
    threads = set(threading.enumerate())

    async def load():
        before = asyncio.all_tasks()
        with pytest.raises(ServerSelectionTimeoutError):
            await SessionStore(KEY).aload()
        await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.sleep(1)
        return asyncio.all_tasks() - before

    if form == "blocking":
        with pytest.raises(ServerSelectionTimeoutError):
            SessionStore(KEY).load()
        clients.reset()
    else:
        assert asyncio.run(load()) == set()

    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - threads:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_everything_works_again_without_a_restart(settings, tmp_path):
    port = mongod.free_port()
    uri = f"mongodb://127.0.0.1:{port}"
    settings.MONGO_SESSIONS = {"URI": uri, "TIMEOUT": 1, "ASYNC": "native"}
    loop = asyncio.new_event_loop()

    def aload(store):
        return loop.run_until_complete(store.aload())

    with ExitStack() as stack:
        stack.enter_context(mongod.running(tmp_path / "data", port=port))
        store = SessionStore()
        store["a"] = 1
        store.save()
        for load in (SessionStore.load, aload):
            assert load(SessionStore(store.session_key)) == {"a": 1}
        stack.close()

        for load in (SessionStore.load, aload):
            errors = []
            for _ in range(5):
                with pytest.raises(ConnectionFailure) as raised:
                    load(SessionStore(store.session_key))
                errors.append(raised.type)
            # The first calls may still meet a server that is about to end.
            assert errors[2:] == [ServerUnavailable] * 3

        stack.enter_context(mongod.running(tmp_path / "data", port=port))
        deadline = time.monotonic() + 30
        for load in (SessionStore.load, aload):
            while True:
                try:
                    assert load(SessionStore(store.session_key)) == {"a": 1}
                    break
                except ServerUnavailable:
                    assert time.monotonic() < deadline
                    loop.run_until_complete(asyncio.sleep(0.05))
        end(loop)
        clients.reset()
