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
        ("user:secret@host", "user:***@host"),
        (
            "mongodb://host/?tls=true&tlsCertificateKeyFilePassword=secret;w=1",
            "mongodb://host/?tls=true&tlsCertificateKeyFilePassword=***&w=1",
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
    given = {"password": "secret", "maxPoolSize": 5}

    assert uris.masked_options(given) == {"password": "***", "maxPoolSize": 5}
    assert uris.secrets(given) == ["secret"]


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("mongodb://localhost", True),
        ("mongodb://user:p@127.0.0.2:27017/db", True),
        ("mongodb://[::1]:27017", True),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock", True),
        ("mongodb://localhost:1,db.example.com:2", False),
        ("mongodb://10.0.0.1", False),
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
