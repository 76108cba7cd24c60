"""Which calls are made while MongoDB is down."""

from types import SimpleNamespace

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DocumentTooLarge,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import breaker, clients, errors, testruns
from django_mongo_sessions.connection.breaker import Breaker, FactoryBreaker
from django_mongo_sessions.exceptions import DNSUnavailable, ServerUnavailable

AWAY = ServerSelectionTimeoutError("no server")
NO_DNS = DNSUnavailable("no DNS")
HANGS = NetworkTimeout("no reply")


class Client:
    """What a breaker reads from a client: how often it looks, and whether it has found a server."""

    def __init__(self, heartbeat):
        self.options = SimpleNamespace(heartbeat_frequency=heartbeat)
        self.is_found = False
        self.topology_type = "ReplicaSetNoPrimary"

    @property
    def topology_description(self):
        secondary = SimpleNamespace(
            is_writable=False, is_server_type_known=True, server_type_name="RSSecondary"
        )
        primary = SimpleNamespace(is_writable=self.is_found, is_server_type_known=False)
        servers = {("::1", 27017): secondary, ("/run/mongod.sock", None): primary}
        return SimpleNamespace(
            server_descriptions=lambda: servers, topology_type_name=self.topology_type
        )


class Calls:
    """Calls through a breaker, at moments that the test chooses."""

    def __init__(self, monkeypatch, heartbeat=1):
        self.now = 100.0
        monkeypatch.setattr(breaker.time, "monotonic", lambda: self.now)
        self.client = Client(heartbeat)
        self.breaker = Breaker(self.client, timeout=4)

    def call(self, error=None, seconds=None):
        """Make one that ends this way, and return whether it was let through."""
        if seconds is None:
            seconds = 2 if error else 0
        began = self.now
        try:
            self.breaker.enter(began)
        except ServerUnavailable as refused:
            self.breaker.leave(began, refused)
            return False
        self.now += seconds
        self.breaker.leave(began, error)
        return True


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


@pytest.fixture
def rarely(monkeypatch):
    """Calls by a client that looks for servers every ten seconds, as PyMongo's do by default."""
    return Calls(monkeypatch, heartbeat=10)


def test_after_a_call_has_waited_in_vain_none_waits_until_a_server_is_found(calls):
    assert calls.call(AWAY, seconds=3)
    assert not calls.call()
    calls.now += 60
    assert not calls.call()

    calls.client.is_found = True

    assert calls.call()
    assert calls.call()


def test_calls_wait_for_a_server_that_was_found_and_is_lost_again(calls):
    calls.call(AWAY)
    calls.client.is_found = True
    calls.call()
    calls.client.is_found = False
    calls.now += 1

    assert calls.call(AWAY)
    assert not calls.call()


def test_one_call_a_second_looks_for_a_client_that_looks_rarely(rarely):
    rarely.call(AWAY)
    assert not rarely.call()

    for _ in range(2):
        rarely.now += 1.1
        assert rarely.call(AWAY, seconds=2)
        assert not rarely.call()

    rarely.now += 1.1
    assert rarely.call()
    assert rarely.call()


def test_one_call_a_second_tries_a_known_server_that_hangs(calls):
    calls.client.is_found = True
    calls.call(HANGS)
    assert not calls.call()

    calls.now += 1.1
    assert calls.call(HANGS)
    assert not calls.call()


def test_one_call_a_second_asks_the_dns_even_if_it_has_failed_at_once(calls):
    assert calls.call(NO_DNS, seconds=0)
    assert not calls.call()

    calls.now += 1.1
    assert calls.call(NO_DNS, seconds=0)
    assert not calls.call()

    calls.now += 1.1
    assert calls.call(AWAY)  # the servers are known, and the client looks for them
    calls.now += 1.1
    assert not calls.call()


def test_a_call_that_waited_for_one_that_asks_the_dns_does_not_end_the_attempts(calls):
    for error in (HANGS, NO_DNS, HANGS):  # it was to go out with the other, and times out first
        assert calls.call(error)
        assert not calls.call()
        calls.now += 1.1

    assert calls.call()


def test_a_client_that_has_found_a_server_looks_for_it_again_if_it_hangs(calls):
    calls.client.is_found = True
    calls.call()
    calls.now += 1
    calls.call(HANGS)
    calls.client.is_found = False
    calls.now += 1.1

    assert not calls.call()


def test_a_dns_that_does_not_know_the_host_is_not_down(calls):
    calls.call(NO_DNS, seconds=0)
    calls.now += 1.1

    assert calls.call(ConfigurationError("no such host"), seconds=0)
    assert calls.call(ConfigurationError("no such host"), seconds=0)


def test_an_old_failure_of_the_dns_does_not_count_if_a_later_call_got_a_reply(calls):
    began = calls.now
    calls.now += 3
    calls.call()

    calls.breaker.leave(began, NO_DNS)

    assert calls.call()


def test_a_server_that_hung_and_was_found_again_is_used(calls):
    calls.client.is_found = True
    calls.call(HANGS)
    calls.client.is_found = False
    assert not calls.call()

    calls.client.is_found = True

    assert calls.call()


def test_an_old_failure_does_not_count_if_a_later_call_got_a_reply(calls):
    calls.client.is_found = True
    calls.breaker.enter(calls.now)
    began = calls.now
    calls.now += 3
    calls.call()

    calls.breaker.leave(began, HANGS)

    assert calls.call()


@pytest.mark.parametrize("error", [None, OperationFailure("no"), AutoReconnect("cut off")])
def test_a_call_that_has_not_waited_in_vain_lets_other_calls_through(calls, error):
    calls.call(error)

    assert calls.call()


@pytest.mark.parametrize("error", [WaitQueueTimeoutError("busy"), DocumentTooLarge("too large")])
def test_an_error_that_does_not_concern_the_server_changes_nothing(rarely, error):
    assert rarely.call(error)
    assert rarely.call(AWAY)
    rarely.now += 1.1

    assert rarely.call(error, seconds=0)
    assert not rarely.call()


def test_a_refused_call_names_the_error_that_was_met(calls):
    calls.call(HANGS)

    with pytest.raises(ServerSelectionTimeoutError, match=r"NetworkTimeout \(no rep") as refused:
        calls.breaker.enter(calls.now)

    assert refused.value.timeout


def test_it_names_the_hosts_and_what_to_try(calls, monkeypatch):
    calls.call(AWAY)

    with pytest.raises(ServerUnavailable) as refused:
        calls.breaker.enter(calls.now)

    assert "down at /run/mongod.sock, [::1]:27017 (RSSecondary): " in str(refused.value)
    assert str(refused.value).endswith("`manage.py check --database default` tells more.")


def test_in_a_test_run_it_names_mongomock(calls, monkeypatch):
    calls.call(AWAY)
    monkeypatch.setattr(testruns, "environment", object)

    with pytest.raises(ServerUnavailable, match="mongomock://.*docs/testing.md"):
        calls.breaker.enter(calls.now)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1"])
def test_the_first_error_says_the_same_instead_of_describing_the_topology(
    settings, soon_told, host
):
    uri = f"mongodb://user:hunter2@{host}/site"
    settings.MONGO_SESSIONS = {"URI": uri, "TIMEOUT": 0.1}

    with pytest.raises(ServerSelectionTimeoutError) as raised:
        SessionStore("0123456789abcdefghijklmnopqrstuv").load()
    clients.reset()

    said = str(raised.value)
    assert said.startswith(f"MongoDB is down at {host}: [")
    assert said.endswith(f". {errors.ADVICE}")
    for noise in ("hunter2", "Topology", "Timeout", "timeouts", ":1: ::1", ":1: 127"):
        assert noise not in said
    assert raised.type is ServerSelectionTimeoutError


def test_any_other_error_keeps_what_it_says(calls):
    text = "no, Timeout: 1.0s, Topology Description: <TopologyDescription>"
    for error in (NetworkTimeout(text), AWAY, ServerUnavailable("away")):
        said = str(error)
        calls.breaker.explain(error)
        assert str(error) == said


def test_a_callers_shorter_deadline_does_not_affect_other_calls(calls):
    assert calls.call(AWAY, seconds=0.1)

    assert calls.call()


def test_a_direct_connection_needs_no_primary(calls):
    calls.call(AWAY)
    assert not calls.call()

    calls.client.topology_type = "Single"

    assert calls.call()


def test_a_client_that_was_closed_is_used_so_that_the_call_finds_out(calls):
    calls.call(AWAY)
    assert not calls.call()

    calls.client._closed = True

    assert calls.call()


def test_a_factory_that_fails_is_called_once_a_second(monkeypatch):
    monkeypatch.setattr(breaker.time, "monotonic", lambda: 100.0)
    factory = FactoryBreaker()
    factory.leave(97.0, ValueError("no client"))

    for refused, tried in [(100.9, 101.0), (101.9, 102.0)]:
        with pytest.raises(ValueError, match="no client"):
            factory.enter(refused)
        factory.enter(tried)

    factory.leave(102.0)
    factory.enter(102.1)
