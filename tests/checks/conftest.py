"""Correct settings, and no connection."""

import socket

import pytest

from django_mongo_sessions.connection import clients


@pytest.fixture(autouse=True)
def right(settings):
    """Settings that no check finds fault with."""
    settings.MONGO_SESSIONS = {"URI": "mongodb://localhost:27017/site"}
    yield settings
    clients.reset()


@pytest.fixture
def no_connection(monkeypatch):
    """Whatever connects or looks up a name fails."""

    def refuse(*args, **kwargs):
        raise AssertionError("a check does I/O")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    for name in ("connect", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
