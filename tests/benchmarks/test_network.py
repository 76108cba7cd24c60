"""The proxy that counts round trips."""

import socket

import pytest

from benchmarks import network


@pytest.fixture
def server():
    """A socket that listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield listener
    listener.close()


@pytest.fixture
def connected(server):
    """A proxy, and both ends of a connection through it."""
    proxy = network.Proxy(server.getsockname()[1])
    client = socket.create_connection(("127.0.0.1", proxy.port))
    accepted = server.accept()[0]
    yield proxy, client, accepted
    for each in (client, accepted, proxy):
        each.close()


def exchange(client, server, request, reply):
    client.sendall(request)
    assert server.recv(len(request), socket.MSG_WAITALL) == request
    server.sendall(reply)
    assert client.recv(len(reply), socket.MSG_WAITALL) == reply


def test_each_reply_that_a_client_waits_for_is_a_turnaround(connected):
    proxy, client, server = connected

    for _ in range(3):
        exchange(client, server, b"find", b"found")

    assert proxy.turnarounds == 3


def test_two_commands_that_are_sent_at_once_are_one_turnaround(connected):
    proxy, client, server = connected

    client.sendall(b"BEGIN;")
    client.sendall(b"SELECT")
    assert server.recv(12, socket.MSG_WAITALL) == b"BEGIN;SELECT"
    server.sendall(b"ok")
    assert client.recv(2) == b"ok"
    server.sendall(b"row")  # the same reply goes on
    assert client.recv(3) == b"row"

    assert proxy.turnarounds == 1


def test_what_only_monitors_a_server_is_no_turnaround(connected):
    proxy, client, server = connected

    exchange(client, server, b"\x10hello\x00", b"well")

    assert proxy.turnarounds == 0


def test_a_delayed_request_arrives_all_the_same(connected):
    proxy, client, server = connected
    proxy.round_trip = 0.001

    exchange(client, server, b"find", b"found")

    assert proxy.turnarounds == 1


def test_an_end_that_is_closed_closes_the_other(connected):
    _, client, server = connected

    client.close()

    assert server.recv(1) == b""


def test_a_network_adds_its_round_trips_to_the_time_on_loopback():
    assert network.modelled(800, 2, 0.5) == 1_800
