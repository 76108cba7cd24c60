"""`manage.py mongosessions import`: what it brings here, what it leaves there, and what it says."""

import io
import json
import os
import re
import shutil
import sys
from datetime import timedelta

import pytest
from bson import Binary
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends import cache, cached_db, db, file
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from pymongo import MongoClient

from django_mongo_sessions import users
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.management import importing
from django_mongo_sessions.storage import dates, documents
from tests.conftest import DATABASE, Commands, collection, count_sessions, encrypt_with

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("switched")]

DB = "django.contrib.sessions.backends.db"
CACHED_DB = "django.contrib.sessions.backends.cached_db"
CACHE = "django.contrib.sessions.backends.cache"
FILE = "django.contrib.sessions.backends.file"
HERE = "tests.management.test_importing"
IN_MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "importing"}
DAY = timedelta(days=1)


def command(*args, stderr=None):
    """Run the command; return what it prints, and the error that it ends with."""
    output, error = io.StringIO(), None
    try:
        call_command(
            "mongosessions", "import", *args, stdout=output, stderr=stderr or io.StringIO()
        )
    except CommandError as raised:
        error = str(raised)
    return output.getvalue(), error


def report(*args):
    """Run the command; return the counts that are not zero."""
    output, _ = command(*args, "--json")
    return {name: value for name, value in json.loads(output).items() if value}


def old(store=db.SessionStore, key=None, **data):
    """Store a session in the old engine, and return its key."""
    session = store()
    session.update(data or {"book": "Emma"})
    session.create()
    session.save()
    return session.session_key


def row(key, data=None, text=None):
    """Store a row as it is; return its key."""
    text = db.SessionStore().encode(data) if text is None else text
    Session.objects.create(session_key=key, session_data=text, expire_date=dates.utc_now() + DAY)
    return key


def key(number):
    """Return a session key."""
    return f"{number:032}"


def sessions():
    """Yield what the test has set: a function that the command can name."""
    yield from sessions.rows


@pytest.fixture
def yielded():
    """The sessions that `sessions` yields."""
    sessions.rows = []
    return sessions.rows


def ends():
    return dates.utc_now() + DAY


@pytest.fixture
def switched(mongod_engine, settings):
    """The site has changed to this engine, and no host uses the old one any more."""
    settings.MONGO_SESSIONS = {
        **settings.MONGO_SESSIONS,
        "PREDECESSOR": DB,
        "PREDECESSOR_UNTIL": (dates.utc_now() + DAY).date(),
    }


# What is imported


def test_a_session_is_the_same_here_and_ends_when_it_did(settings):
    data = {SESSION_KEY: "7", HASH_SESSION_KEY: "hash", "cart": {"a": [1, 2.5, None]}}
    name = old(**data, _session_expiry=3600)
    Session.objects.filter(pk=name).update(expire_date=dates.utc_now() + timedelta(seconds=600))
    there = Session.objects.get(pk=name)

    assert report(DB) == {"imported": 1}

    (stored,) = collection().find()
    expected = there.expire_date
    began = expected - timedelta(seconds=3600)
    assert SessionStore(name).load() == {**data, "_session_expiry": 3600}
    assert (stored["expires_at"], stored["there_until"]) == (expected, expected)
    assert (stored["created_at"], stored["seen_at"]) == (began, began)
    assert stored["auth_hash"] == documents.hash_of("hash")
    assert users.count_sessions("7") == 1
    assert Session.objects.count() == 1


def test_a_session_can_be_used_and_saved_after_the_import():
    name = old()
    report(DB)
    session = SessionStore(name)
    session["more"] = 1
    session.save()

    assert SessionStore(name).load() == {"book": "Emma", "more": 1}


def test_an_import_goes_on_where_it_was_and_leaves_what_is_here_alone():
    names = [old() for _ in range(5)]
    session = SessionStore(names[0])
    report(DB, "--batch", "2")
    session["changed"] = True
    session.save()
    names.append(old())

    assert report(DB, "--batch", "2") == {"imported": 1, "already_here": 5}
    assert SessionStore(names[0]).load() == {"book": "Emma", "changed": True}


def test_a_session_that_was_ended_here_is_not_imported():
    name = old()
    report(DB)
    SessionStore(name).flush()
    row(name, {"book": "Emma"})  # as if it could not be deleted there

    assert report(DB) == {"already_here": 1}
    assert SessionStore(name).load() == {}


def test_an_import_is_refused_where_a_sign_out_leaves_no_tombstone(settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR": None}
    old()

    assert "no tombstone" in command(DB)[1]
    assert report(DB, "--dry-run") == {"imported": 1}


def test_a_dry_run_changes_nothing():
    old()
    Session.objects.filter(pk=old()).update(expire_date=dates.utc_now() - DAY)

    assert report(DB, "--dry-run", "--take") == {"imported": 1, "expired": 1}
    assert (count_sessions(), Session.objects.count()) == (0, 2)


def use_an_engine_with_fields(settings):
    settings.SESSION_ENGINE = "tests.management.import_engine"
    given = settings.MONGO_SESSIONS
    options = {**given["CLIENT_OPTIONS"], "uuidRepresentation": "standard"}
    settings.MONGO_SESSIONS = {**given, "CLIENT_OPTIONS": options}


def test_fields_of_the_project_are_stored(settings):
    use_an_engine_with_fields(settings)
    old(kind="guest")

    assert report(DB) == {"imported": 1}
    assert collection().find_one()["kind"] == "guest"
    assert collection().find_one()["was"] == "django.contrib.sessions.models"


# What is not


def test_what_cannot_be_imported_is_counted_by_reason_and_left_where_it_is(logged):
    row(key(1), {"fine": 1})
    row(key(2), text=db.SessionStore().encode({"cut": 1})[:-5])
    with override_settings(SECRET_KEY="another"):
        row(key(3), {"other": 1})
    row(key(4), text="")
    row("short", {"key": 1})
    row(key(5), {"large": "x" * 20_000_000})

    output, error = command(DB)

    assert output.splitlines() == [
        "imported: 1",
        "unreadable: 3",
        "key unusable: 1",
        "too large: 1",
    ]
    assert error.startswith("5 sessions could not be imported")
    assert (count_sessions(), Session.objects.count()) == (1, 6)
    assert not logged()


def test_values_that_the_serializer_does_not_know_are_counted_by_their_names(yielded):
    yielded += [
        (key(1), {"fine": 1, "tags": {1}, "at": dates.utc_now()}, ends(), {}),
        (key(2), {"tags": {2}}, ends(), {}),
        (key(3), {"pair": (1, 2)}, ends(), None),
    ]

    assert report(f"{HERE}.sessions") == {
        "imported": 1,
        "not_storable": 2,
        "session_keys_not_storable": {"tags": 2, "at": 1},
        "session_keys_changed_by_serializer": {"pair": 1},
    }
    assert SessionStore(key(3)).load() == {"pair": [1, 2]}


def test_what_a_method_of_the_project_raises_is_counted_too(settings, yielded):
    use_an_engine_with_fields(settings)
    yielded += [
        (key(1), {"kind": 2**70}, ends(), {}),  # BSON does not hold it
        (key(2), {"fine": 1}, ends(), {"payload": 1}),
        (key(3), {"fine": 1}, ends(), {"origin": "x"}),
    ]

    assert report(f"{HERE}.sessions") == {
        "imported": 1,
        "not_storable": 2,
        "session_keys_not_storable": {"OverflowError": 1, "ValueError": 1},
    }
    assert collection().find_one()["origin"] == "x"


def test_a_date_without_a_zone_is_utc_as_long_as_django_uses_zones(yielded):
    end = ends()
    yielded.append((key(1), {"a": 1}, end.replace(tzinfo=None), {}))

    with override_settings(TIME_ZONE="Asia/Tokyo"):
        assert report(f"{HERE}.sessions") == {"imported": 1}
    assert collection().find_one()["expires_at"] == end


def test_an_engine_whose_decoding_fails_has_unreadable_sessions(settings):
    old()

    assert report("tests.management.broken_engine") == {"unreadable": 1}


def test_an_end_that_is_none_is_counted_as_unreadable(yielded):
    yielded += [
        (key(1), {"_session_expiry": 1e400}, ends(), {}),
        (key(2), "no dict", ends(), {}),
        (3, {"a": 1}, ends(), {}),
    ]

    assert report(f"{HERE}.sessions") == {"imported": 1, "unreadable": 1, "key_unusable": 1}


def test_a_session_older_than_absolute_age_has_expired(settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "ABSOLUTE_AGE": 60}
    Session.objects.filter(pk=old()).update(expire_date=ends())

    assert report(DB) == {"expired": 1}


def test_what_mongodb_refuses_is_counted():
    collection().create_index("user_id", unique=True, sparse=True)
    try:
        for _ in range(2):
            old(**{SESSION_KEY: "7"})
        assert report(DB) == {"imported": 1, "refused_by_mongodb": 1}
    finally:
        collection().drop_indexes()


def test_a_write_that_may_not_last_ends_the_import(failing_server, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "URI": failing_server}
    collection().delete_many({})
    old()
    with MongoClient(failing_server) as client:
        concern = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out"}
        client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode={"times": 1},
            data={"failCommands": ["insert"], "writeConcernError": concern},
        )
    _, error = command(DB, "--take")

    assert "This could not be done" in error
    assert Session.objects.count() == 1


# Memory


def test_queries_are_not_kept_in_memory(settings):
    settings.DEBUG = True
    for _ in range(4):
        old()
    connection.queries_log.clear()
    report(DB, "--batch", "1")

    assert len(connection.queries_log) < 4


def test_large_sessions_are_stored_before_the_batch_is_full(monkeypatch, commands):
    monkeypatch.setattr(importing, "_MAX_BYTES", 100)
    for _ in range(3):
        old(text="x" * 200)

    assert report(DB) == {"imported": 3}
    assert commands.names().count("insert") == 3


# Verification


class Tampering(Commands):
    """Changes what was inserted before it is read back."""

    def __init__(self, uri, update):
        super().__init__()
        self.uri, self.update = uri, update

    def succeeded(self, event):
        if event.command_name == "insert":
            with MongoClient(self.uri) as client:
                sessions = client[DATABASE].sessions
                (found,) = sessions.find()
                if self.update is None:
                    sessions.delete_one({})
                else:
                    sessions.update_one({}, self.update(found))


@pytest.fixture
def tamper(mongod_engine, settings):
    """`tamper(update)` changes each document right after it was inserted."""

    def tamper(update):
        given = settings.MONGO_SESSIONS
        options = {
            **given["CLIENT_OPTIONS"],
            "event_listeners": [Tampering(mongod_engine, update)],
        }
        settings.MONGO_SESSIONS = {**given, "CLIENT_OPTIONS": options}

    return tamper


@pytest.mark.parametrize("verify", ["all", "sample"])
@pytest.mark.parametrize(
    ("update", "stays"),
    [
        (None, 0),
        (lambda found: {"$set": {"payload": Binary(b"\x01" + bytes(40))}}, 0),
        (lambda found: {"$set": {"expires_at": found["expires_at"] + DAY}}, 0),
        (lambda found: {"$unset": {"expires_at": True}}, 0),
        (lambda found: {"$set": {"write_id": bytes(12), "payload": b""}}, 1),
    ],
    ids=["deleted", "damaged", "longer", "endless", "overwritten"],
)
def test_a_copy_that_is_not_the_same_is_a_failure_and_stays_there(tamper, update, stays, verify):
    old()
    tamper(update)

    output, error = command(DB, "--take", "--verify", verify)

    assert "failed verification: 1" in output
    assert error
    assert Session.objects.count() == 1
    assert count_sessions() == stays


@pytest.mark.parametrize(
    "update",
    [
        lambda found: {"$set": {"revision": -1, "payload": b""}},
        lambda found: {"$set": {"write_id": bytes(12), "revision": 1}},
        lambda found: {"$set": {"seen_at": dates.utc_now(), "expires_at": ends()}},
    ],
    ids=["signed out", "saved", "touched"],
)
def test_what_requests_have_done_since_is_no_failure(tamper, update):
    old()
    tamper(update)

    assert report(DB, "--take") == {"imported": 1, "deleted_there": 1}


# Races


class Meanwhile(Commands):
    """Lets a request come at the first of some events."""

    def __init__(self, moment, request):
        super().__init__()
        self.moment, self.request = moment, request

    def come(self, moment):
        if moment == self.moment:
            self.moment = None
            self.request()

    def started(self, event):
        self.come(f"before {event.command_name}")

    def succeeded(self, event):
        self.come(f"after {event.command_name}")


@pytest.mark.parametrize("verb", ["sign out", "save"])
@pytest.mark.parametrize(
    "moment", ["before find", "after find", "before insert", "after insert", "before update"]
)
def test_a_request_may_come_at_any_moment(settings, moment, verb):
    name = old()

    def request():
        session = SessionStore(name)
        session["saved"] = True
        session.flush() if verb == "sign out" else session.save()

    given = settings.MONGO_SESSIONS
    listeners = {"event_listeners": [Meanwhile(moment, request)]}
    options = {**given["CLIENT_OPTIONS"], **listeners}
    settings.MONGO_SESSIONS = {**given, "CLIENT_OPTIONS": options}

    assert command(DB, "--take")[1] is None
    row(key(1), {"another": 1})
    assert command(DB, "--take")[1] is None

    expected = {"book": "Emma", "saved": True} if verb == "save" else {}
    assert SessionStore(name).load() == expected
    assert not Session.objects.exists()
    assert not listeners["event_listeners"][0].moment


# Taking


def test_take_deletes_there_what_is_here_also_of_an_earlier_run(mongod_engine):
    first, second, foreign = old(), old(), old()
    report(DB)
    collection().delete_one({"_id": documents.document_id(second)})
    collection().update_one(
        {"_id": documents.document_id(foreign)}, {"$set": {"payload": b"damaged"}}
    )

    found = report(DB, "--take")

    assert found == {"imported": 1, "already_here": 2, "deleted_there": 2}
    assert Session.objects.get().pk == foreign
    assert all(
        "there_until" not in each
        for each in collection().find({"revision": 0}, limit=0)
        if each["_id"] != documents.document_id(foreign)
    )
    assert SessionStore(first).load() == {"book": "Emma"}


def test_take_deletes_what_cached_db_has_cached(settings):
    settings.CACHES = {"default": IN_MEMORY}
    name = old(cached_db.SessionStore)

    assert report(CACHED_DB, "--take") == {"imported": 1, "deleted_there": 1}
    assert cached_db.SessionStore(name).load() == {}


@pytest.mark.parametrize("keeps", [True, False])
def test_take_is_refused_while_the_old_engine_is_in_use(settings, keeps):
    old()
    if keeps:
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_KEEPS": True}
    else:
        settings.SESSION_ENGINE = DB

    assert "still in use" in command(DB, "--take")[1]
    if keeps:
        assert report(DB) == {"imported": 1}
    else:
        assert "Switch first" in command(DB)[1]
    assert Session.objects.count() == 1


def test_what_a_function_yields_cannot_be_taken(yielded):
    yielded.append((key(1), {"a": 1}, ends(), {}))

    assert "cannot be deleted" in command(f"{HERE}.sessions", "--take")[1]


# Finishing


@pytest.fixture
def copies(settings):
    """Copies, made two minutes ago; their keys."""
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_KEEPS": True}
    names = [old() for _ in range(5)]
    report(DB)
    collection().update_many({}, {"$set": {"adopted": dates.utc_now() - timedelta(minutes=2)}})
    return names


def test_finish_ends_unused_copies_whose_session_is_gone_there(copies):
    there, gone, used, touched, ended = copies
    session = SessionStore(used)
    session["used"] = True
    session.save()
    SessionStore(touched).save()
    past = {"there_until": dates.utc_now() - DAY, "expires_at": dates.utc_now() - DAY}
    collection().update_one({"_id": documents.document_id(ended)}, {"$set": past})
    Session.objects.exclude(pk=there).delete()
    young = old()
    report(DB)
    Session.objects.filter(pk=young).delete()

    assert report(DB, "--finish", "--dry-run") == {"ended": 1, "remain": 1}
    assert report(DB, "--finish", "--batch", "1") == {"ended": 1, "remain": 1}

    assert not SessionStore().exists(gone)
    assert all(map(SessionStore().exists, [there, used, touched, young]))


def test_finish_is_refused_if_nothing_is_there(copies):
    Session.objects.all().delete()

    assert "no session at all" in command(DB, "--finish")[1]
    assert count_sessions() == 5


def test_finish_is_refused_if_requests_take_sessions(copies, settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_KEEPS": False}
    Session.objects.filter(pk=copies[0]).delete()

    assert "PREDECESSOR_KEEPS is not True" in command(DB, "--finish")[1]


# Engines


def test_files_are_imported_and_taken(session_files):
    name, past = old(file.SessionStore), old(file.SessionStore)
    moment = dates.utc_now() - timedelta(days=13)
    os.utime(session_files / f"sessionid{name}", times=(moment.timestamp(),) * 2)
    os.utime(session_files / f"sessionid{past}", times=(0, 0))
    (session_files / f"sessionid{key(1)}").write_bytes(b"\xff")
    (session_files / f"sessionid{key(2)}").symlink_to("missing")
    (session_files / f"sessionid{'A' * 32}").write_text("x")
    (session_files / "other").write_text("x")

    expected = {"imported": 1, "expired": 1, "unreadable": 2, "deleted_there": 1}
    assert report(FILE, "--take") == expected

    assert collection().find_one()["expires_at"] == moment + timedelta(days=14)
    assert not (session_files / f"sessionid{name}").exists()


def check_a_cache(settings, options):
    settings.CACHES = {"default": {**options, "KEY_PREFIX": "my[site]"}}
    store = caches["default"]
    name, lasting = old(cache.SessionStore), old(cache.SessionStore)
    prefix = cache.KEY_PREFIX
    store.set(prefix + lasting, {"lasting": 1}, None)
    store.set(prefix + key(1), "no dict")
    store.set("other", "x")

    found = report(CACHE, "--take")

    assert found == {"imported": 2, "unreadable": 1, "deleted_there": 2}
    assert SessionStore(name).load() == {"book": "Emma"}
    assert store.get(prefix + name) is None
    assert store.get("other") == "x"


@pytest.mark.parametrize("kind", ["InMemoryRedis", "LikeDjangoRedis"])
def test_a_cache_in_redis_is_imported_and_taken(settings, kind):
    check_a_cache(settings, {"BACKEND": f"tests.management.caches.{kind}", "LOCATION": "x"})


def test_an_entry_that_is_no_pickle_does_not_hide_the_others(settings):
    settings.CACHES = {"default": {"BACKEND": "tests.management.caches.InMemoryRedis"}}
    caches["default"].set(cache.KEY_PREFIX + key(1), b"no pickle")
    name = old(cache.SessionStore)

    assert report(CACHE) == {"imported": 1, "unreadable": 1}
    assert SessionStore(name).load() == {"book": "Emma"}


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed")
def test_djangos_redis_cache_is_imported_from_redis(settings, tmp_path):
    pytest.importorskip("redis")
    from benchmarks import servers

    with servers.redis_server(shutil.which("redis-server"), tmp_path / "redis") as url:
        backend = "django.core.cache.backends.redis.RedisCache"
        check_a_cache(settings, {"BACKEND": backend, "LOCATION": url})
        caches["default"]._cache.get_client().connection_pool.disconnect()


def test_an_entry_that_is_gone_meanwhile_is_left_out(settings):
    settings.CACHES = {"default": {"BACKEND": "tests.management.caches.InMemoryRedis"}}
    source = importing.sources.find(CACHE)

    assert list(source.read([key(1)])) == []


class Nowhere(SessionBase):
    """An engine that keeps its sessions where nobody can list them."""


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (CACHE, IN_MEMORY, "LocMemCache cannot be listed. .*set PREDECESSOR"),
        (
            CACHE,
            {
                "BACKEND": "tests.management.caches.InMemoryRedis",
                "LOCATION": "x",
                "KEY_FUNCTION": "tests.management.caches.hidden",
            },
            "KEY_FUNCTION hides",
        ),
        ("django.contrib.sessions.backends.signed_cookies", IN_MEMORY, "nothing to import"),
        ("django_mongo_sessions.backends.mongodb", IN_MEMORY, "this engine itself"),
        ("tests.management.unlisted", IN_MEMORY, "cannot be listed"),
        ("no.such.module", IN_MEMORY, "neither a module"),
        ("django.contrib.sessions.models", IN_MEMORY, "neither a module"),
        ("django.contrib.sessions.models.Session", IN_MEMORY, "neither a module"),
        (f"{HERE}.failing", IN_MEMORY, "failing has failed: RuntimeError: no route$"),
        (f"{HERE}.malformed", IN_MEMORY, "must yield"),
    ],
)
def test_an_engine_that_cannot_be_listed_is_told_with_a_remedy(settings, path, options, message):
    settings.CACHES = {"default": options}

    assert re.search(message, command(path)[1])


def failing():
    raise RuntimeError("no route\nto a key")


def malformed():
    return [(1, 2)]


# On the screen


def interrupted():
    yield from sessions.rows
    raise KeyboardInterrupt


def test_an_interrupted_import_says_what_was_done(yielded):
    yielded += [(key(number), {"a": 1}, ends(), {}) for number in range(4)]

    output, error = command(f"{HERE}.interrupted", "--batch", "2")

    assert output == "imported: 4\n"
    assert error.startswith("Interrupted. Run it again")


@pytest.mark.parametrize("path", [DB, f"{HERE}.sessions"])
def test_without_a_terminal_there_is_a_line_for_each_batch(yielded, path):
    for number in range(3):
        yielded.append((row(key(number), {"a": 1}), {"a": 1}, ends(), {}))
    stderr = io.StringIO()

    command(path, "--batch", "2", stderr=stderr)

    lines = stderr.getvalue().splitlines()
    starts = ["2 of 3, ", "3 of 3, "] if path == DB else ["2, ", "3, "]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 2
    assert key(1) not in stderr.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    old()
    stderr = Terminal()

    command(DB, stderr=stderr)

    assert "1/1" in stderr.getvalue()
    assert "\x1b[" in stderr.getvalue()


def test_without_rich_there_are_lines_on_a_terminal_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    old()
    stderr = Terminal()

    command(DB, stderr=stderr)

    assert stderr.getvalue().startswith("1 of 1, ")


def test_with_verbosity_0_only_what_is_left_is_reported():
    old()
    stderr = Terminal()

    assert command(DB, "-v", "0", stderr=stderr) == ("", None)

    row(key(1), text="cut")
    output, error = command(DB, "-v", "0", stderr=stderr)
    assert "unreadable: 1\n" in output
    assert error.startswith("1 session could not be imported")
    assert command(DB, "--dry-run", "-v", "0")[0].startswith("to be imported: 0\n")
    assert stderr.getvalue() == ""


def test_a_batch_needs_a_number(capsys):
    with pytest.raises(CommandError, match="--batch"):
        call_command("mongosessions", "import", DB, "--batch", "0")


# Encryption


def test_an_import_encrypts_if_the_site_does(monkeypatch):
    encrypt_with(monkeypatch, bytes(range(32)))
    name = old(book="Emma")

    assert report(DB, "--take") == {"imported": 1, "deleted_there": 1}

    (stored,) = collection().find()
    assert stored["payload"][:1] == b"\x04"
    assert SessionStore(name).load() == {"book": "Emma"}

    row(name, {"book": "Emma"})
    assert report(DB, "--take") == {"already_here": 1, "deleted_there": 1}


def test_an_import_ends_if_the_keys_cannot_be_had(monkeypatch):
    def fail():
        raise OSError("no route")

    encrypt_with(monkeypatch, ENCRYPTION_KEYS=fail)
    old()

    _, error = command(DB, "--take")

    assert "OSError" in error
    assert (count_sessions(), Session.objects.count()) == (0, 1)


# What must not come back


def keep(settings):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_KEEPS": True}


def adopted(**data):
    """Store a session in the old engine, and use it here; return its key."""
    name = old(**data)
    assert SessionStore(name).load() == data
    return name


def test_what_revoke_ends_for_all_is_not_adopted_again(settings, monkeypatch):
    monkeypatch.setattr("django_mongo_sessions.engine.deleting.EXPIRED_BATCH", 2)
    keep(settings)
    names = [adopted(a=number) for number in range(3)]
    SessionStore().save()

    call_command("mongosessions", "revoke", "--all", "--yes", stdout=io.StringIO())

    assert count_sessions() == 0
    assert [SessionStore(name).load() for name in names] == [{}] * 3


@pytest.mark.parametrize("born_here", [0, 1])
def test_nor_is_what_cannot_be_encrypted_anew(settings, monkeypatch, born_here):
    keep(settings)
    encrypt_with(monkeypatch, bytes(range(32)))
    name = adopted(a=1)
    for _ in range(born_here):
        SessionStore().save()
    encrypt_with(monkeypatch, bytes(range(1, 33)))

    call_command("mongosessions", "encrypt", "--sign-out-others", stdout=io.StringIO())

    assert count_sessions() == 0
    assert SessionStore(name).load() == {}


def test_revoking_a_key_deletes_it_in_the_old_engine_too(settings):
    keep(settings)
    name = adopted(**{SESSION_KEY: "7"})

    call_command("mongosessions", "revoke", "--key", name, "--yes", stdout=io.StringIO())

    assert SessionStore(name).load() == {}
    assert not Session.objects.filter(pk=name).exists()


def test_what_was_taken_is_no_copy_to_be_ended(settings):
    names = [adopted(a=number) for number in range(2)]
    old()
    past = dates.utc_now() - 2 * importing._MARGIN
    collection().update_many({}, {"$set": {"adopted": past}})
    keep(settings)

    assert report(DB, "--finish") == {"remain": 0} or report(DB, "--finish") == {}
    assert [SessionStore(name).load() for name in names] == [{"a": 0}, {"a": 1}]


def test_an_import_ends_with_the_last_day(settings, monkeypatch):
    for _ in range(2):
        old()
    imported = importing.Import._import

    def at_midnight(self, keys):
        imported(self, keys)
        today = dates.utc_now().date()
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_UNTIL": today}

    monkeypatch.setattr(importing.Import, "_import", at_midnight)

    _, error = command(DB, "--batch", "1")

    assert "its time is over" in error
    assert count_sessions() == 1


def test_before_the_switch_nothing_is_imported(settings):
    settings.SESSION_ENGINE = DB
    old()

    _, error = command(DB)

    assert "is not this engine yet" in error
    assert count_sessions() == 0
    assert report(DB, "--dry-run") == {"imported": 1}


def test_no_error_of_a_file_says_a_key(session_files, settings, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(path))

    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR": FILE}
    name = old(file.SessionStore)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)

    _, error = command(FILE, "--take")

    assert "PermissionError: Permission denied" in error
    assert name not in error
