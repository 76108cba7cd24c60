import functools
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from pymongo import MongoClient

from django_mongo_sessions.connection import uris


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
    ("uri", "text", "shown"),
    [
        ("mongodb://site:1?hunter2=x@db", "no hunter2: x, in text", "no ***: ***, in text"),
        (
            "mongodb://db/?appName=me@x&wrong=1",
            "wrong is 1 at some time",
            "wrong is 1 at some time",
        ),
        ("mongodb://user:p@db/?a=me@x", "a me", "a me"),
    ],
)
def test_possible_parts_of_a_password_in_the_query_are_masked_as_words(uri, text, shown):
    assert uris.without_secrets(text, uri, {}) == shown


@pytest.mark.parametrize(
    ("uri", "may"),
    [
        ("mongodb://site:2024/hunter2@db1", True),
        ("mongodb://site:2024?hunter2@db1", True),
        ("mongodb://site:2024/?hunter2@db1", True),
        ("mongodb://site:2024/a?b@db1/site?w=1", True),
        ("mongodb://site:2024@db1/a@b", False),
        ("mongodb://db1/site?appName=me@db1", False),
        ("mongodb://db1?w=1&me@db1", False),
        ("mongodb://db1", False),
    ],
)
def test_half_a_password_is_not_taken_for_an_option(uri, may):
    assert uris.may_hold_half_a_password(uri) == may


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
def test_a_server_is_local_or_remote(uri, local):
    assert uris.is_local(uri) == local


CA_FILE = str(Path(__file__).parent / "ca.pem")


@pytest.mark.parametrize(
    ("query", "options", "tls"),
    [
        ("", {}, False),
        ("?tls=true", {}, True),
        ("?ssl=true", {}, True),
        ("?tls=TRUE", {}, False),
        ("?tls=TRUE", {"tls": True}, True),
        ("?ssl=true", {"SSL": False}, False),
        ("", {"tls": True}, True),
        ("", {"TLS": "true"}, True),
        ("?tls=true", {"TLS": False}, False),
        (f"?tlsCAFile={quote_plus(CA_FILE)}", {}, True),
        ("", {"tlsCAFile": CA_FILE}, True),
        ("", {"tlsCAFile": None}, False),
        ("", {"tlsCRLFile": CA_FILE}, True),
        ("", {"tlsCertificateKeyFilePassword": "p"}, True),
        ("?tlsCertificateKeyFilePassword=", {}, False),
        *(
            pair
            for lenient in [
                *("tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"),
                "tlsDisableOCSPEndpointCheck",
            ]
            for pair in [
                (f"?{lenient}=true", {}, False),
                (f"?{lenient}=false", {}, True),
                (f"?{lenient}=0", {}, False),
                ("", {lenient: True}, False),
                ("", {lenient: False}, True),
                ("?tls=true", {lenient: True}, True),
            ]
        ),
        ("?tlsBogus=false", {}, False),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyMongo's, about an option that it ignores
def test_tls_options_are_read_as_pymongo_reads_them(query, options, tls):
    uri = f"mongodb://host/{query}"
    with MongoClient(uri, **options, connect=False) as client:
        assert bool(client.options.pool_options._ssl_context) == tls

    assert uris.has_tls(uri, options) == tls


@pytest.mark.parametrize(
    ("query", "tls"), [("", True), ("?tls=false", False), ("?tlsInsecure=true", True)]
)
def test_an_srv_uri_means_tls_unless_it_is_switched_off(query, tls):
    assert uris.has_tls(f"mongodb+srv://host/{query}", {}) == tls


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("AWS_SESSION_TOKEN:abc,def:ghi", "def"),
        ("AWS_SESSION_TOKEN:abc,def", "def"),
        ("AWS_SESSION_TOKEN:abc:def", "def"),
    ],
)
def test_a_part_of_a_token_is_a_secret_too(value, quoted):
    uri = f"mongodb://host/?authMechanismProperties={value}"
    text = f"{quoted} is not supported. Must be one of ('AWS_SESSION_TOKEN', 'SERVICE_NAME')"

    shown = uris.without_secrets(text, uri, {})

    assert shown == "*** is not supported. Must be one of ('AWS_SESSION_TOKEN', 'SERVICE_NAME')"
