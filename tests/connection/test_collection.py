"""From settings to a collection: options, deadlines, shared clients, and what is refused."""

import sys

import pytest
from bson.binary import UuidRepresentation
from django.core.exceptions import ImproperlyConfigured
from pymongo import AsyncMongoClient, MongoClient, ReadPreference

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.connection import clients, collection

NOWHERE = "mongodb://127.0.0.1:1"


def options():
    return clients.collection().client.options


# Clients of our own


def test_our_defaults_are_set(use):
    use(URI=NOWHERE)

    sessions, timeout, owned, *_ = clients.collection()

    assert (sessions.database.name, sessions.name) == ("django", "sessions")
    assert sessions.codec_options.tz_aware
    assert options().server_selection_timeout == 3
    assert options().pool_options.connect_timeout == 3
    assert options().heartbeat_frequency == 1
    assert options().pool_options.appname == "django-mongodb-sessions"
    assert options().pool_options.driver.name == "django-mongodb-sessions"
    assert timeout == 5.0
    assert owned


def test_our_defaults_give_way_to_the_uri(use):
    use(URI=f"{NOWHERE}/site?SERVERSELECTIONTIMEOUTMS=700&appName=site&connecttimeoutms=800")

    assert clients.collection()[0].database.name == "site"
    assert options().server_selection_timeout == 0.7
    assert options().pool_options.connect_timeout == 0.8
    assert options().pool_options.appname == "site"


def test_our_defaults_give_way_to_client_options(use):
    use(URI=NOWHERE, CLIENT_OPTIONS={"serverselectiontimeoutms": 700})

    assert options().server_selection_timeout == 0.7


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "auto"),
        ({"ASYNC": "native"}, "poll"),
        ({"ASYNC": "native", "CLIENT_OPTIONS": {"servermonitoringmode": "stream"}}, "stream"),
    ],
)
def test_loops_that_may_be_short_open_no_second_connection_in_the_background(use, given, mode):
    use(URI=NOWHERE, **given)

    client = collection.make_client(AsyncMongoClient)

    assert client.options.server_monitoring_mode == mode


def test_the_clients_own_deadline_comes_before_ours(use):
    use(URI=f"{NOWHERE}/?timeoutMS=900", TIMEOUT=7)
    assert clients.collection().timeout is None

    use(URI=NOWHERE, TIMEOUT=7)
    assert clients.collection().timeout == 7


def test_a_database_by_setting_comes_before_the_uris(use):
    use(URI=f"{NOWHERE}/site", DATABASE="other", COLLECTION="visits")

    assert clients.collection()[0].full_name == "other.visits"


def test_reads_go_to_the_primary_whatever_the_uri_says(use):
    use(URI=f"{NOWHERE}/?readPreference=secondary")

    assert clients.collection()[0].read_preference == ReadPreference.PRIMARY


def test_other_ways_of_the_clients_to_read_and_write_bson_are_kept(use):
    use(URI=f"{NOWHERE}/?uuidRepresentation=standard&readConcernLevel=majority")

    assert clients.collection()[0].codec_options.uuid_representation == UuidRepresentation.STANDARD
    assert clients.collection()[0].read_concern.level == "local"


@pytest.mark.parametrize(
    ("query", "concern"),
    [
        ("", {"w": "majority"}),
        ("?journal=true", {"w": "majority", "j": True}),
        ("?w=1", {"w": 1}),
    ],
)
def test_writes_are_majority_unless_a_w_was_given(use, query, concern):
    use(URI=f"{NOWHERE}/{query}")

    assert clients.collection()[0].write_concern.document == concern


def test_writes_without_acknowledgement_are_refused(use):
    use(URI=f"{NOWHERE}/?w=0")

    with pytest.raises(ImproperlyConfigured, match="w=0"):
        clients.collection()


def test_a_delete_is_majority_whatever_was_given(mongod_engine, use, commands, settings):
    uri = mongod_engine + ("&" if "?" in mongod_engine else "/?") + "w=1"
    use(**{**settings.MONGO_SESSIONS, "URI": uri})
    store = SessionStore()
    store.save()
    store.delete()

    concerns = {name: command.get("writeConcern") for name, command in commands.sent}
    assert concerns["insert"] == {"w": 1}
    assert concerns["delete"] == {"w": "majority"}


# mongomock


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"URI": "mongomock://"}, "django.sessions"),
        ({"URI": "mongomock:///site"}, "site.sessions"),
        ({"URI": "mongomock://", "DATABASE": "other"}, "other.sessions"),
    ],
)
def test_mongomock_takes_a_database_too(use, given, name):
    use(**given)

    assert clients.collection()[0].full_name == name


def test_without_mongomock_the_error_says_what_to_install(use, monkeypatch):
    use(URI="mongomock://")
    monkeypatch.setitem(sys.modules, "mongomock", None)

    with pytest.raises(ImproperlyConfigured, match="pip install mongomock"):
        clients.collection()


# Shared clients


@pytest.fixture
def shared():
    """A client of the site's, and how often it was asked for."""

    def factory():
        factory.calls += 1
        return factory.client

    factory.calls = 0
    factory.client = MongoClient(f"{NOWHERE}/site?readPreference=secondary", connect=False)
    yield factory
    factory.client.close()


class Loops:
    """Counts the asynchronous clients that a site is asked for."""

    client = None

    def __call__(self):
        self.client = AsyncMongoClient(f"{NOWHERE}/site")
        return self.client


def test_a_shared_client_is_asked_for_once_and_has_our_guarantees(use, shared):
    use(CLIENT=shared, COLLECTION="visits", TIMEOUT=2)

    sessions, timeout, owned, *_ = clients.collection()

    assert clients.collection().collection is sessions
    assert shared.calls == 1
    assert sessions.full_name == "site.visits"
    assert sessions.database.client is shared.client
    assert sessions.read_preference == ReadPreference.PRIMARY
    assert sessions.write_concern.document == {"w": "majority"}
    assert (timeout, owned) == (2, False)


def test_a_shared_client_is_never_closed(use, shared):
    use(CLIENT=shared)
    clients.collection()

    clients.reset()

    assert not shared.client._closed
    clients.collection()
    assert shared.calls == 2


def test_a_shared_clients_own_deadline_comes_before_ours(use):
    with MongoClient(f"{NOWHERE}/?timeoutMS=900", connect=False) as client:
        use(CLIENT=lambda: client)

        assert clients.collection().timeout is None


def test_a_shared_client_may_be_named_by_its_path(use):
    use(CLIENT="tests.connection.test_collection.a_shared_client", DATABASE="other")

    assert clients.collection().collection.full_name == "other.sessions"


def a_shared_client():
    return MongoClient(NOWHERE, connect=False)


def test_a_shared_client_may_be_mongomock(use):
    import mongomock

    use(CLIENT=mongomock.MongoClient)
    store = SessionStore()
    store["a"] = 1
    store.save()

    assert SessionStore(store.session_key)["a"] == 1
    assert clients.collection().collection.full_name == "django.sessions"


def test_a_shared_client_without_acknowledgement_is_refused(use):
    with MongoClient(f"{NOWHERE}/?w=0", connect=False) as client:
        use(CLIENT=lambda: client)

        with pytest.raises(ImproperlyConfigured, match="w=0"):
            SessionStore("0123456789abcdefghijklmnopqrstuv").load()


def test_what_is_no_client_is_refused(use):
    use(CLIENT=dict)

    with pytest.raises(ImproperlyConfigured, match="returned a dict. It must return a MongoClient"):
        clients.collection()


def test_a_path_that_leads_nowhere_is_refused(use):
    use(CLIENT="tests.nowhere.client")

    with pytest.raises(ImproperlyConfigured, match=r"\['CLIENT'\] cannot be imported"):
        clients.collection()


a_client = MongoClient(NOWHERE, connect=False)
a_database = a_client["site"]
a_collection = a_database["sessions"]


@pytest.mark.parametrize("name", ["a_client", "a_database", "a_collection", "NOWHERE"])
@pytest.mark.parametrize("setting", ["CLIENT", "ASYNC_CLIENT"])
def test_what_cannot_be_called_for_a_client_is_refused_with_what_can(use, setting, name):
    use(**{setting: f"tests.connection.test_collection.{name}"})

    kind = type(globals()[name]).__name__
    with pytest.raises(ImproperlyConfigured, match=f"names a {kind}. It must name a callable"):
        collection.import_factory(setting)


def test_without_an_asynchronous_client_a_shared_one_means_threads(use, shared):
    use(CLIENT=shared)
    assert not collection.has_async()

    use(CLIENT=shared, ASYNC_CLIENT=Loops())
    assert collection.has_async()


def test_an_asynchronous_client_has_the_same_guarantees(use):
    loops = Loops()
    use(ASYNC_CLIENT=loops, TIMEOUT=2)

    sessions, timeout, owned, *_ = collection.make_collection(AsyncMongoClient)

    assert sessions.database.client is loops.client
    assert sessions.write_concern.document == {"w": "majority"}
    assert (timeout, owned) == (2, False)


SECRET = "S3CRET"


# What is refused


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mongodb://user:S3C@RET@host/db", "quote_plus"),
        ("mongodb://user:S3C/RET@host/db", "quote_plus"),
        ("mongodb://user:S3C?RET@host/db", "quote_plus"),
        ("mongodb://user:S3C%RET@host/db", "quote_plus"),
        ("mongodb://user:2024/S3CRET@host", "quote_plus"),
        ("mongodb://user:2024?S3CRET@host/db?w=1", "quote_plus"),
        ("mongodb://user:S3CRET@host/a b", "database name"),
        ("mongodb://user:S3CRET@host/a\\b", "database names cannot contain"),
        ("mongodb://user:S3CRET@host:port/", "quote_plus|Port"),
        ("http://user:S3CRET@host", "scheme"),
        ("mongodb://", "hostname"),
    ],
)
def test_a_uri_that_pymongo_refuses_is_refused_without_showing_a_password(use, uri, said):
    use(URI=uri)

    with pytest.raises(ImproperlyConfigured, match=said) as refused:
        clients.collection()

    assert not any(part in str(refused.value) for part in ("S3C", "RET"))
    assert refused.value.__suppress_context__


def test_an_option_that_pymongo_refuses_is_told_and_its_secrets_are_not_shown(use):
    use(URI=NOWHERE, CLIENT_OPTIONS={"readPreference": SECRET, "password": SECRET})

    with pytest.raises(ImproperlyConfigured, match="read preference") as refused:
        clients.collection()

    assert SECRET not in str(refused.value)


def test_a_wrong_key_is_refused_at_first_use(use):
    use(URL="mongodb://localhost")

    with pytest.raises(ImproperlyConfigured, match=r"\['URL'\] .* Did you mean 'URI'"):
        clients.collection()
