import pytest, os
from datetime import timedelta
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.contrib.sessions.backends import file
from django.core.management import call_command
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.engine import predecessors, deleting
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.storage import dates, documents
from django_mongo_sessions.management import importing, sources
from tests.conftest import collection, count_sessions, encrypt_with
from tests.management.test_importing import *
from tests.management.test_importing import DB, FILE, DAY, old, report, command, switched
for _n in [n for n in dir() if n.startswith("test_")]: del globals()[_n]

def keep(settings, value=True):
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_KEEPS": value}

def test_a_revoke_all_comes_back(settings):
    keep(settings)
    name = old(**{SESSION_KEY: "7"})
    assert SessionStore(name).load()
    call_command("mongosessions", "revoke", "--all", "--yes")
    assert SessionStore(name).load() == {}

def test_b_encrypt_sign_out_others_comes_back(settings, monkeypatch):
    keep(settings)
    encrypt_with(monkeypatch, bytes(range(32)))
    name = old(**{SESSION_KEY: "7"})
    assert SessionStore(name).load()
    encrypt_with(monkeypatch, bytes(range(1, 33)))
    call_command("mongosessions", "encrypt", "--sign-out-others")
    assert count_sessions() == 0
    assert SessionStore(name).load() == {}

def test_c_finish_ends_taken(settings):
    names = [old(**{SESSION_KEY: "7"}) for _ in range(3)]
    other = old()
    for n in names: assert SessionStore(n).load()
    assert Session.objects.count() == 1
    collection().update_many({}, {"$set": {"adopted": dates.utc_now() - timedelta(minutes=2)}})
    keep(settings)
    print(report(DB, "--finish"))
    assert all(SessionStore(n).load() for n in names)

def test_d_key_on_screen(settings, tmp_path, monkeypatch):
    settings.SESSION_FILE_PATH = str(tmp_path)
    monkeypatch.delattr(file.SessionStore, "_storage_path", raising=False)
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR": FILE}
    name = old(file.SessionStore)
    from pathlib import Path
    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(self))
    monkeypatch.setattr(Path, "unlink", refuse)
    out, error = command(FILE, "--take")
    print(error)
    assert name not in (error or "")

def test_e_file_unreadable_is_a_miss(settings, tmp_path, monkeypatch):
    settings.SESSION_FILE_PATH = str(tmp_path)
    monkeypatch.delattr(file.SessionStore, "_storage_path", raising=False)
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR": FILE}
    predecessors._engine.cache_clear()
    name = old(file.SessionStore)
    import builtins
    real = builtins.open
    def no(path, *a, **k):
        if name in str(path): raise OSError(24, "Too many open files", str(path))
        return real(path, *a, **k)
    monkeypatch.setattr(builtins, "open", no); import io; monkeypatch.setattr(io, "open", no)
    from django_mongo_sessions.exceptions import PredecessorUnavailable
    with pytest.raises(PredecessorUnavailable):
        s = SessionStore(name); print(s.load(), s.session_key)

def test_f_revoke_key_leaves_row(settings):
    keep(settings)
    name = old(**{SESSION_KEY: "7"})
    assert SessionStore(name).load()
    call_command("mongosessions", "revoke", "--key", name, "--yes")
    assert SessionStore(name).load() == {}
    assert not Session.objects.filter(pk=name).exists()

def test_g_import_over_midnight(settings, monkeypatch):
    """the import goes on after UNTIL"""
    keep(settings)
    name = old(**{SESSION_KEY: "7"})
    assert SessionStore(name).load()          # adopted, row kept
    find_ids = importing.operations.find_ids
    from django_mongo_sessions.conf import conf
    def later(ids):
        # before this batch is looked for: the day is over, and the user signs out
        settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR_UNTIL": dates.utc_now().date()}
        SessionStore(name).flush()
        return find_ids(ids)
    monkeypatch.setattr(importing.operations, "find_ids", later)
    print(report(DB))
    assert SessionStore(name).load() == {}

def test_h_import_before_switch(settings):
    ours = settings.SESSION_ENGINE
    settings.SESSION_ENGINE = DB
    name = old(**{SESSION_KEY: "7"})
    print(command(DB))
    from django.contrib.sessions.backends.db import SessionStore as Db
    Db(name).flush()  # signs out before the switch
    settings.SESSION_ENGINE = ours
    assert SessionStore(name).load() == {}

def test_i_import_before_switch_loses_data(settings):
    ours = settings.SESSION_ENGINE
    settings.SESSION_ENGINE = DB
    name = old(cart=[1])
    command(DB)
    from django.contrib.sessions.backends.db import SessionStore as Db
    s = Db(name); s["cart"] = [1, 2, 3]; s.save()   # still the engine in use
    settings.SESSION_ENGINE = ours
    assert SessionStore(name).load() == {"cart": [1, 2, 3]}

def test_j_going_back_after_sign_out_everywhere(settings):
    keep(settings)
    name = old(**{SESSION_KEY: "7"})
    assert SessionStore(name).load()
    from django_mongo_sessions.engine import signed_in
    run(signed_in.revoke("7", lambda f: True, "user"))
    from django.contrib.sessions.backends.db import SessionStore as Db
    assert Db(name).load() == {}

def test_k_stale_there_until(settings):
    """an old host lengthens the row after the copy; then a shorter end here"""
    keep(settings)
    name = old(_session_expiry=5)
    Session.objects.filter(pk=name).update(expire_date=dates.utc_now() + timedelta(seconds=2))
    s = SessionStore(name); s["a"] = 1; s.save() if False else None
    s.load()
    Session.objects.filter(pk=name).update(expire_date=dates.utc_now() + timedelta(days=1))
    s = SessionStore(name); s.load(); s.set_expiry(3); s.save()
    assert not Session.objects.filter(pk=name).exists()

def test_l_signed_cookies_rolling(settings):
    from django.test import RequestFactory
    from django.contrib.sessions.backends import signed_cookies
    from django.contrib.sessions.middleware import SessionMiddleware as Djangos
    from django.http import HttpResponse
    from django_mongo_sessions.middleware.sessions import SessionMiddleware
    SC = "django.contrib.sessions.backends.signed_cookies"
    settings.MONGO_SESSIONS = {**settings.MONGO_SESSIONS, "PREDECESSOR": SC, "PREDECESSOR_KEEPS": True}
    predecessors._engine.cache_clear()
    s = signed_cookies.SessionStore(); s[SESSION_KEY] = "7"; s.save()
    cookie = s.session_key
    seen = []
    def view(request):
        seen.append(request.session.get(SESSION_KEY)); return HttpResponse()
    def go(cls, engine, cookie):
        settings.SESSION_ENGINE = engine
        r = RequestFactory().get("/"); r.COOKIES["sessionid"] = cookie
        return cls(view)(r).cookies.get("sessionid")
    ours = settings.SESSION_ENGINE
    new = go(SessionMiddleware, ours, cookie)      # a new host, read-only request
    print(repr(new))
    got = go(Djangos, SC, new.value if new else cookie)              # then an old host
    print(repr(got), seen)
    assert seen == ["7", "7"] and not (got and got["max-age"] == 0)

def test_m_sign_in_on_a_new_host_then_an_old_one(settings):
    from django.test import RequestFactory
    from django.contrib.sessions.middleware import SessionMiddleware as Djangos
    from django.http import HttpResponse
    keep(settings)
    name = old(a=1)
    s = SessionStore(name); s.load(); s["a"]; s[SESSION_KEY] = "7"; s.cycle_key(); s.save()  # login()
    settings.SESSION_ENGINE = DB
    r = RequestFactory().get("/"); r.COOKIES["sessionid"] = s.session_key
    got = Djangos(lambda q: HttpResponse(str(q.session.get(SESSION_KEY))))(r)
    print(repr(got.cookies.get("sessionid")))
    assert "sessionid" not in got.cookies
