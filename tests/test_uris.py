import functools

import pytest

from django_mongo_sessions import uris


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://host", "mongodb://host"),
        ("mongodb://user@host/db?w=1", "mongodb://user@host/db?w=1"),
        ("mongodb://user:secret@a:1,b:2/db", "mongodb://user:***@a:1,b:2/db"),
        ("mongodb+srv://user:secret@host", "mongodb+srv://user:***@host"),
        ("mongodb://user:se@cret@host/", "mongodb://user:***@host/"),
        ("mongodb://user:se/cret@host/", "mongodb://user:***@host/"),
        ("mongodb://user:se?cret@host/", "mongodb://user:***@host/"),
        ("mongodb://user:se#cret@host/", "mongodb://user:***@host/"),
        ("mongodb://user:se://cret@host/", "mongodb://user:***@host/"),
        ("mongodb://user:se&password=cret@host/", "mongodb://user:***@host/"),
        ("user:secret@host", "user:***@host"),
        (
            "mongodb://host/?tls=true&tlsCertificateKeyFilePassword=secret;w=1",
            "mongodb://host/?tls=true&tlsCertificateKeyFilePassword=***;w=1",
        ),
        (
            "mongodb://host:1/?tlsCertificateKeyFilePassword=sec@secret",
            "mongodb://host:1/?tlsCertificateKeyFilePassword=***",
        ),
        (
            "mongodb://user:secret@host/?w=1&PROXYPASSWORD=sec@secret&w=1",
            "mongodb://user:***@host/?w=1&PROXYPASSWORD=***&w=1",
        ),
        (
            "mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:secret",
            "mongodb://host/?authMechanismProperties=***",
        ),
    ],
)
def test_no_password_is_shown(uri, shown):
    assert uris.masked(uri) == shown


def test_secret_options_are_not_shown():
    listener = functools.partial(print, "secret")
    given = {"password": "secret", "maxPoolSize": 5, "event_listeners": [listener]}

    shown = {"password": "***", "maxPoolSize": 5, "event_listeners": "a list"}
    assert uris.masked_options(given) == shown


def test_secret_values_are_masked_wherever_they_stand():
    given = {"password": "secret", "authMechanismProperties": {"TOKEN": "secretive", "NONE": None}}
    text = "None but secret and secretive, and p w of another host"

    shown = uris.without_secrets(text, "mongodb://host/?password=p%20w&appName=host", given)

    assert shown == "None but *** and ***, and *** of another host"


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("mongodb://localhost", True),
        ("mongodb://user:p@127.0.0.2:27017/db", True),
        ("mongodb://[::1]:27017", True),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock", True),
        ("mongodb://localhost:1,db.example.com:2", False),
        ("mongodb://10.0.0.1", False),
        ("mongodb://db.example.com/?appName=me@localhost", False),
        ("mongodb://u:p@localhost/?appName=me@db.example.com", True),
        ("mongodb+srv://cluster.example.com/?w=1", False),
    ],
)
def test_a_server_is_local_or_not(uri, local):
    assert uris.is_local(uri) == local


@pytest.mark.parametrize(
    ("uri", "options", "tls"),
    [
        ("mongodb://host", {}, False),
        ("mongodb://host/?tls=true", {}, True),
        ("mongodb://host/?ssl=true", {}, True),
        ("mongodb://host/?tlsCAFile=ca.pem", {}, True),
        ("mongodb://host", {"tls": True}, True),
        ("mongodb://host/?tls=true", {"TLS": False}, False),
        ("mongodb+srv://host", {}, True),
        ("mongodb+srv://host/?tls=false", {}, False),
    ],
)
def test_tls_is_asked_for_or_not(uri, options, tls):
    assert uris.has_tls(uri, options) == tls
