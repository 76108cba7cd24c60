"""What other engines say of a session: its data and its end, also as an older Django wrote it."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.backends import cache, cached_db, db, file, signed_cookies
from django.contrib.sessions.models import Session
from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import predecessors
from django_mongo_sessions.engine.predecessors import (
    CACHE,
    COOKIES,
    FILE,
    OTHER,
    ROWS,
    OldEngine,
    kind,
)
from django_mongo_sessions.exceptions import PredecessorUnavailable
from django_mongo_sessions.middleware import SessionMiddleware
from django_mongo_sessions.storage import dates, documents
from tests.conftest import count_sessions
from tests.engine.helpers import the_document
from tests.engine.old import plain, rows
from tests.engine.test_adopting import is_buried, load, set_up

VECTORS = Path(__file__).parents[1] / "vectors"
FROZEN = json.loads((VECTORS / "django-4.2.json").read_text())
DATA = FROZEN["data"]
KEY = FROZEN["row"]["session_key"]
BACKENDS = "django.contrib.sessions.backends."
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def old_site(settings, session_files, request):
    """The settings of a site on an old engine, whose sessions Django 4.2 has made."""
    settings.SECRET_KEY = FROZEN["secret_key"]
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    request.getfixturevalue("engine")
    predecessors._engine.cache_clear()
    return session_files


def test_every_kind_of_engine_is_recognized():
    assert kind(db.SessionStore) == kind(cached_db.SessionStore) == kind(rows.SessionStore) == ROWS
    assert kind(cache.SessionStore) == CACHE
    assert kind(file.SessionStore) == FILE
    assert kind(signed_cookies.SessionStore) == COOKIES
    assert kind(plain.SessionStore) == OTHER


class NotInstalled(plain.SessionStore):
    @classmethod
    def get_model_class(cls):
        raise RuntimeError("isn't in INSTALLED_APPS")


def test_an_engine_whose_app_is_not_installed_is_refused():
    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"):
        predecessors._engine(NotInstalled)


def whole(date):
    return date.replace(microsecond=date.microsecond // 1000 * 1000)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["db", "cached_db"])
def test_a_frozen_row_is_adopted(do, old_site, settings, name):
    set_up(settings, BACKENDS + name)
    ends = datetime.fromisoformat(FROZEN["row"]["expire_date"])
    Session.objects.create(**{**FROZEN["row"], "expire_date": ends})

    assert do(SessionStore(), "exists", KEY)
    assert load(do, KEY) == DATA

    assert not Session.objects.exists()
    assert dates.utc(the_document()["expires_at"]) == whole(ends)
    do(SessionStore(KEY), "flush")
    assert is_buried(KEY)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_the_cache_still_has_is_gone(old_site, engine, settings):
    """An administrator has deleted the row, to sign the user out."""
    store = cached_db.SessionStore()
    store["a"] = 1
    store.save()
    Session.objects.all().delete()
    set_up(settings, BACKENDS + "cached_db")

    assert store.load() == {"a": 1}
    assert SessionStore(store.session_key).load() == {}


ROW = FROZEN["row"]["session_data"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("text", ["", "cut", ROW[:-1], "é\0", ROW], ids=lambda text: text[-5:])
def test_a_row_that_does_not_open_is_a_miss_and_stays(old_site, engine, settings, text):
    set_up(settings, BACKENDS + "db")
    if text == ROW:
        settings.SECRET_KEY = "another"
    Session.objects.create(session_key=KEY, session_data=text, expire_date=dates.utc_now() + DAY)

    assert SessionStore(KEY).load() == {}
    assert Session.objects.count() == 1
    assert count_sessions() == 0


def test_a_row_whose_key_differs_in_case_is_none():
    class Row:
        session_key = KEY.upper()

    class Found:
        def filter(self, session_key):
            return self

        def first(self):
            return Row

    class Model:
        objects = Found()

    class Store:
        @classmethod
        def get_model_class(cls):
            return Model

    assert predecessors._row(Store(), KEY) is None


def test_a_file_is_adopted(do, old_site, settings):
    set_up(settings, BACKENDS + "file")
    path = Path(file.SessionStore()._key_to_file(KEY))
    path.write_text(FROZEN["file"])
    saved = whole(datetime.fromtimestamp(path.stat().st_mtime, timezone.utc))

    assert load(do, KEY) == DATA

    assert not path.exists()
    left = dates.utc(the_document()["expires_at"]) - saved
    assert abs(left - timedelta(seconds=django_settings.SESSION_COOKIE_AGE)) <= SECOND / 1000
    assert load(do, KEY[::-1]) == {}


def test_a_file_that_cannot_be_opened_is_no_miss(do, old_site, settings):
    """Django's own load() takes it for one."""
    set_up(settings, BACKENDS + "file")
    Path(file.SessionStore()._key_to_file(KEY)).mkdir()

    with pytest.raises(PredecessorUnavailable, match="IsADirectoryError"):
        load(do, KEY)


def test_a_file_whose_key_has_other_characters_is_none(do, old_site, settings):
    set_up(settings, BACKENDS + "file")

    assert load(do, KEY.upper()) == {}
    do(SessionStore(KEY.upper()), "delete")
    assert is_buried(KEY.upper())


@pytest.mark.parametrize("seconds", [60, None])
def test_an_entry_of_the_local_cache_ends_when_it_did(do, old_site, settings, seconds):
    set_up(settings, BACKENDS + "cache")
    store = cache.SessionStore()
    store.update(DATA)
    store.save()
    store._cache.touch(store.cache_key, seconds)
    made = store._cache.make_key(store.cache_key)
    expected = store._cache._expire_info[made]

    assert load(do, store.session_key) == DATA

    ends = dates.utc(the_document()["expires_at"])
    assert ends == (dates.LATEST if seconds is None else whole(utc(expected)))
    assert store.load() == {}
    assert load(do, KEY) == {}


def utc(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc)


class Silent(BaseCache):
    """A cache that does not tell when an entry ends, as memcached."""

    entry = None
    milliseconds = 0

    def __init__(self, location, params):
        super().__init__(params)

    def get(self, key, default=None, version=None):
        return self.entry


class LikeDjangoRedis(Silent):
    def pttl(self, key):
        return self.milliseconds


class LikeDjangosRedis(Silent):
    class Client:
        def get_client(self, key):
            return LikeDjangoRedis("", {})

    _cache = Client()


@pytest.mark.parametrize(
    ("name", "pttl", "left"),
    [
        ("LikeDjangoRedis", 60_000, timedelta(seconds=60)),
        ("LikeDjangoRedis", None, 14 * DAY),
        ("LikeDjangoRedis", 0, None),
        ("LikeDjangosRedis", 60_000, timedelta(seconds=60)),
        ("LikeDjangosRedis", -1, 365 * DAY),
        ("LikeDjangosRedis", -2, None),
        ("Silent", 0, 14 * DAY),
    ],
)
def test_an_entry_of_another_cache_ends_when_that_says(settings, monkeypatch, name, pttl, left):
    settings.CACHES = {"default": {"BACKEND": f"tests.engine.test_predecessors.{name}"}}
    monkeypatch.setattr(Silent, "entry", DATA)
    monkeypatch.setattr(Silent, "milliseconds", pttl)

    found = OldEngine(cache.SessionStore).read(KEY)

    if left is None:
        assert found is None
    elif left > 100 * DAY:
        assert found.ends == dates.LATEST
    else:
        assert abs(found.ends - dates.utc_now() - left) < 10 * SECOND
        assert found.data == DATA
    if found is not None:
        assert found.is_exact == (left != 14 * DAY)


# Signed cookies


@pytest.fixture
def cookies(old_site, settings):
    set_up(settings, BACKENDS + "signed_cookies")
    return FROZEN["cookie"]


def test_a_signed_cookie_is_adopted_under_a_key_that_follows_from_it(do, cookies):
    store = SessionStore(cookies)
    key = store.session_key

    assert do(store, "_get_session") == DATA

    assert len(key) == 32
    assert key == predecessors.key_of_cookie(cookies)
    assert store.modified  # so that the browser gets its key
    document = the_document()
    age = timedelta(seconds=django_settings.SESSION_COOKIE_AGE)
    assert dates.utc(document["expires_at"]) == utc(FROZEN["cookie_time"]) + age
    again = SessionStore(cookies)
    assert do(again, "_get_session") == DATA
    assert again.modified
    assert load(do, key) == DATA
    assert do(SessionStore(), "exists", cookies)
    assert count_sessions() == 1


def test_while_hosts_of_before_serve_to_read_replaces_no_cookie(do, cookies, settings):
    set_up(settings, BACKENDS + "signed_cookies", PREDECESSOR_KEEPS=True)
    store = SessionStore(cookies)

    assert do(store, "_get_session") == DATA
    assert not store.modified


@pytest.mark.parametrize("verb", ["flush", "delete"])
def test_a_stolen_cookie_dies_with_the_sign_out(do, cookies, settings, verb):
    do(SessionStore(cookies), verb)

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
    assert do(SessionStore(cookies), "load") == {}
    assert not do(SessionStore(), "exists", cookies)


def test_a_cookie_is_deleted_by_its_value(do, cookies):
    do(SessionStore(), "delete", cookies)

    assert do(SessionStore(cookies), "load") == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda cookie: cookie[:-1],
        lambda cookie: "x" + cookie,
        lambda cookie: cookie.replace(":", ":!", 1),
        lambda cookie: cookie.replace(":", "", 1),
        lambda cookie: "x" * 4000 + cookie,
        lambda cookie: cookie.rsplit(":", 2)[0] + ":zzzzzzzzzzzzzzzz:" + "a" * 43,
        lambda cookie: "abcdefgh:::::::::::::::::::::::::::::",
    ],
)
def test_a_cookie_that_is_not_genuine_is_a_miss(cookies, engine, change):
    assert SessionStore(change(cookies)).load() == {}
    assert count_sessions() == 0


def test_a_cookie_that_ended_early_ends_early(cookies, engine):
    store = signed_cookies.SessionStore()
    store.update(DATA)
    store.set_expiry(60)
    store.save()

    assert SessionStore(store.session_key).load() == {**DATA, "_session_expiry": 60}
    left = dates.utc(the_document()["expires_at"]) - dates.utc_now()
    assert timedelta() < left <= 60 * SECOND


def test_a_cookie_whose_session_cannot_be_stored_stays(cookies, engine, settings):
    settings.SESSION_SERIALIZER = "tests.engine.test_predecessors.Reading"
    store = SessionStore(cookies)

    assert store._get_session() == {}
    assert not store.modified


class Reading:
    """A serializer that loads what it cannot dump."""

    def dumps(self, data):
        raise TypeError("cannot")

    def loads(self, body):
        return json.loads(body)


def test_the_browser_gets_its_key(cookies, engine, settings):
    name = settings.SESSION_COOKIE_NAME
    settings.MIDDLEWARE = []

    def view(request):
        return HttpResponse(request.session.get("_auth_user_id", "nobody"))

    request = RequestFactory().get("/")
    request.COOKIES[name] = cookies
    response = SessionMiddleware(view)(request)

    assert response.content == b"7"
    assert response.cookies[name].value == predecessors.key_of_cookie(cookies)


def test_dates_of_mongoengine_have_no_zone(settings):
    class Row:
        _meta = {}
        expire_date = datetime(2026, 7, 1, 12)

    class DjangosRow:
        _meta = None
        expire_date = Row.expire_date

    settings.TIME_ZONE = "America/Chicago"
    assert predecessors.row_end(Row()).hour == 12
    assert predecessors.row_end(DjangosRow()).hour == 17
    settings.USE_TZ = False
    assert predecessors.row_end(Row()).hour == 17


def test_an_id_that_follows_from_a_cookie_is_part_of_the_stored_format():
    assert predecessors.key_of_cookie("a:b:c") == "yaii6fq8hbbuapvsdrw6fjfumhwt9jxi"
    assert documents.document_id(predecessors.key_of_cookie("a:b:c")) is not None
