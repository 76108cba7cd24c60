"""The DNS is down when it is asked for the servers of a mongodb+srv:// URI."""

import asyncio
import sys
import threading
import time
import traceback

import dns.resolver
import pymongo
import pytest
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.urls import path
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, ServerSelectionTimeoutError
from pymongo.uri_parser import parse_uri

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.checks.server import check_server
from django_mongo_sessions.checks.settings import check_settings
from django_mongo_sessions.connection import breaker, clients, errors
from django_mongo_sessions.connection.srv import dns_outage
from django_mongo_sessions.exceptions import DNSUnavailable, ServerUnavailable
from django_mongo_sessions.mongo import coalescing
from tests import dns_server
from tests.conftest import DATABASE, browser

URI = f"mongodb+srv://{dns_server.HOST}/?tls=false"
KEY = "0123456789abcdefghijklmnopqrstuv"
DOWN = [pytest.param("SERVFAIL", id="fails"), pytest.param(None, id="is silent")]


def reads(request):
    return HttpResponse(request.session.get("a", "nothing"))


async def areads(request):
    return HttpResponse((await request.session.aload()).get("a", "nothing"))  # 4.2 has no aget()


def copes(request):
    try:
        return reads(request)
    except ServerSelectionTimeoutError as error:
        return HttpResponse(str(error))


urlpatterns = [path(view.__name__, view) for view in (reads, areads, copes)]
handler500 = "django.views.defaults.server_error"


def connects():
    """Return a client as most sites make it."""
    return MongoClient(URI, connectTimeoutMS=100)


@pytest.fixture
def dns_down(mongod_uri, monkeypatch):
    """A DNS server that fails."""
    [(_, port)] = parse_uri(mongod_uri)["nodelist"]
    with dns_server.DNSServer(port).running() as server:
        server.fail("SERVFAIL")
        server.use(monkeypatch)
        yield server


@pytest.fixture
def site(settings, dns_down):
    """A site whose URI names a cluster."""
    settings.ROOT_URLCONF = __name__
    settings.SESSION_ENGINE = "django_mongo_sessions.backends.mongodb"
    settings.MIDDLEWARE = ["django_mongo_sessions.middleware.SessionMiddleware"]
    settings.TEMPLATES = []
    settings.MONGO_SESSIONS = {
        "URI": URI,
        "DATABASE": DATABASE,
        "ASYNC": "threads",
        "CLIENT_OPTIONS": {"connectTimeoutMS": 300, "serverMonitoringMode": "poll"},
    }
    yield settings
    clients.reset()


@pytest.fixture(params=["blocking", "native", "threads"])
def get(request, site):
    """Request a page as a browser with a cookie."""
    if request.param == "native":
        site.MONGO_SESSIONS = {**site.MONGO_SESSIONS, "ASYNC": "native"}
    with browser(KEY, is_async=request.param != "blocking") as get:
        yield get


def recovered(get):
    """Return the first response that is no 503."""
    for _ in range(100):
        answer = get("/reads")
        if answer.status_code != 503:
            break
        time.sleep(0.1)
    return answer


@pytest.mark.parametrize("how", DOWN)
@pytest.mark.parametrize("middleware", ["django_mongo_sessions", "django.contrib.sessions"])
def test_it_is_an_outage_with_one_record_in_the_log(get, site, dns_down, caplog, how, middleware):
    site.MIDDLEWARE = [f"{middleware}.middleware.SessionMiddleware"]
    dns_down.fail(how)

    answer = get("/areads")

    is_ours = middleware == "django_mongo_sessions"
    assert answer.status_code == (503 if is_ours else 500)
    assert answer.get("Retry-After") == ("1" if is_ours else None)
    assert not answer.cookies
    [record] = [each for each in caplog.records if each.name == "django.request"]
    assert record.exc_info[0] is DNSUnavailable
    assert "".join(traceback.format_exception(*record.exc_info)).count("DNSUnavailable") == 1


@pytest.fixture
def hourly(monkeypatch):
    """Let nothing be tried again before an hour is over."""
    monkeypatch.setattr(breaker, "PROBE_INTERVAL", 3600)


@pytest.mark.usefixtures("hourly")
def test_the_following_requests_do_not_ask_it(get, dns_down):
    get("/reads")
    asked = len(dns_down.queries)

    said = get("/copes").content.decode()

    assert len(dns_down.queries) == asked
    assert f"down at {dns_server.HOST}: a call ended in DNSUnavailable (The servers of " in said
    assert "SERVFAIL), and no server has been found since. The next attempt follows" in said


@pytest.mark.usefixtures("site", "hourly")
def test_nor_do_calls_with_a_shorter_deadline_of_their_callers():
    for expected in (DNSUnavailable, ServerUnavailable):
        with pytest.raises(ServerUnavailable) as raised, pymongo.timeout(1):
            SessionStore(KEY).load()
        assert raised.type is expected


def test_a_process_recovers_when_it_replies_again(get, dns_down):
    assert get("/reads").status_code == 503

    dns_down.reply_well()
    assert recovered(get).content == b"nothing"


def test_the_error_says_what_failed_and_where_and_what_to_try(site, dns_down):
    site.MONGO_SESSIONS = {"URI": f"mongodb+srv://user:hunter2@{dns_server.HOST}/site"}

    with pytest.raises(DNSUnavailable) as raised:
        SessionStore(KEY).load()

    said = str(raised.value)
    assert said.startswith(f"The servers of {dns_server.HOST} cannot be looked up in the DNS: All ")
    assert said.endswith(f" answered SERVFAIL. {errors.ADVICE_ON_DNS}")
    assert "hunter2" not in said
    assert "user" not in said


def test_a_record_that_may_be_missing_has_to_be_asked_for_too(site, dns_down):
    dns_down.reply_well()
    dns_down.replies["TXT"] = "SERVFAIL"

    with pytest.raises(DNSUnavailable, match="IN TXT"):
        SessionStore(KEY).load()


@pytest.mark.parametrize("reply", ["NXDOMAIN", []])
def test_a_name_that_has_no_servers_is_wrong_and_no_outage(get, dns_down, caplog, reply):
    dns_down.fail(reply)

    assert get("/areads").status_code == 500
    [record] = [each for each in caplog.records if each.name == "django.request"]
    assert record.exc_info[0] is ConfigurationError
    assert dns_server.HOST in str(record.exc_info[1])


@pytest.fixture
def shared(site):
    """A client that asks the DNS when it is made. An async one does so at its first use."""
    site.MONGO_SESSIONS = {"CLIENT": connects, "DATABASE": DATABASE}


BLOCKING = pytest.mark.parametrize("get", ["blocking", "threads"], indirect=True)


@BLOCKING
@pytest.mark.usefixtures("hourly")
def test_a_shared_client_that_cannot_be_made_is_an_outage_too(get, shared):
    assert get("/reads").status_code == 503

    said = get("/copes").content.decode()

    assert "making a client ended in DNSUnavailable (The servers of MongoDB cannot be" in said
    assert errors.ADVICE_ON_DNS not in said


@BLOCKING
def test_a_shared_client_is_made_when_the_dns_replies_again(get, shared, dns_down):
    assert get("/reads").status_code == 503

    dns_down.reply_well()
    assert recovered(get).content == b"nothing"
    clients.collection().client.close()


@pytest.fixture
def company(dns_down, monkeypatch):
    """New sessions that are saved at the same moment, while the DNS is silent."""
    monkeypatch.setattr(coalescing, "PATIENCE", 60)  # or they would all go alone
    dns_down.fail(None)
    stores = [SessionStore() for _ in range(4)]
    for store in stores:
        store["a"] = 1
    return stores


def test_tasks_whose_writes_go_out_together_all_know_that_none_was_applied(site, company):
    site.MONGO_SESSIONS = {**site.MONGO_SESSIONS, "ASYNC": "native"}

    async def save():
        return await asyncio.gather(*(each.asave() for each in company), return_exceptions=True)

    assert [type(error) for error in asyncio.run(save())] == [DNSUnavailable] * 4


def test_so_do_threads(site, company):
    raised, at_once = [], threading.Barrier(4)
    clients.collection()

    def save(store):
        at_once.wait()
        try:
            store.save()
        except ServerUnavailable as error:
            raised.append(error)

    threads = [threading.Thread(target=save, args=[store]) for store in company]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(raised) == 4


def test_once_the_servers_are_known_the_dns_may_fail(site, dns_down):
    dns_down.reply_well()
    assert SessionStore(KEY).load() == {}

    dns_down.fail("SERVFAIL")

    assert SessionStore(KEY).load() == {}


def pymongo_asks_a_resolver_without_a_configuration():
    try:
        raise dns.resolver.NoResolverConfiguration("no resolv.conf")
    except dns.resolver.NoResolverConfiguration as error:
        raise ConfigurationError(str(error)) from None  # as PyMongo 4.15.1 does


def test_a_resolver_without_a_configuration_is_an_outage():
    with pytest.raises(ConfigurationError) as raised:
        pymongo_asks_a_resolver_without_a_configuration()

    said = str(dns_outage(raised.value))
    assert said.startswith("The servers of MongoDB cannot be looked up in the DNS: no resolv.conf")


@pytest.mark.parametrize(
    "command", [["status"], ["users"], ["indexes"], ["show", KEY], ["revoke", "--user", "1"]]
)
def test_the_command_says_so(site, command):
    with pytest.raises(CommandError) as raised:
        call_command("mongosessions", *command, skip_checks=True)

    said = str(raised.value)
    assert said.startswith(f"This could not be done: The servers of {dns_server.HOST} cannot be ")
    assert said.endswith(f"SERVFAIL. {errors.ADVICE_ON_DNS}")


def test_the_checks_say_so(site):
    [warning] = check_server(databases=["default"])

    assert warning.id == "mongo_sessions.W010"
    assert f"The servers of {dns_server.HOST} cannot be looked up" in warning.msg


@pytest.mark.django_db
def test_migrate_goes_on(site, logged):
    call_command("migrate", verbosity=0)

    [record] = logged()
    assert f"The servers of {dns_server.HOST} cannot be looked up" in record.getMessage()


def test_without_dnspython_the_configuration_is_wrong(site, monkeypatch):
    monkeypatch.setitem(sys.modules, "dns", None)

    [error] = check_settings()

    assert error.id == "mongo_sessions.E004"
    assert '"dnspython" module must be' in error.msg
