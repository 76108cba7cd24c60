import pytest
from pymongo.errors import AutoReconnect
from datetime import timedelta
from django.contrib.auth import SESSION_KEY
from django_mongo_sessions import users
from django_mongo_sessions.conf import Conf
from django_mongo_sessions.engine import deleting
from django_mongo_sessions.mongo import operations
from django_mongo_sessions.mongo.runner import run
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.signals import session_revoked
from django_mongo_sessions.storage import dates
from tests.engine.test_adopting import world, predecessor, load, set_up, KEY, DATA, load_once, adopting_load

@pytest.mark.parametrize("keeps", [True, False])
def test_midnight(do, predecessor, settings, keeps, monkeypatch):
    set_up(settings, PREDECESSOR_KEEPS=keeps)
    predecessor.put(KEY, **DATA)
    def m():
        if load_once(predecessor):
            run(adopting_load(SessionStore(KEY)))  # another request adopts
            monkeypatch.setattr(Conf, "predecessor_until", lambda self: dates.utc_now() - timedelta(seconds=1))
            run(deleting.delete(SessionStore(KEY)))  # the day is over: signs out
    predecessor.meanwhile = m
    load(do)
    assert load(do) == {}

def test_half_revoked(do, predecessor, settings, monkeypatch):
    set_up(settings, PREDECESSOR_KEEPS=True)
    predecessor.put(KEY, **DATA)
    load(do)
    s = SessionStore(); s[SESSION_KEY] = "7"; s.create() if False else None
    do(s, "create") if False else run(__import__("django_mongo_sessions.engine.saving", fromlist=["x"]).save(s))
    told = []
    def hear(sender, **kw): told.append(kw["session"])
    session_revoked.connect(hear)
    def fail(*a): return operations.Operation(lambda c: (_ for _ in ()).throw(AutoReconnect("x")), bool)
    monkeypatch.setattr(operations, "delete_of_user", fail)
    try:
        with pytest.raises(AutoReconnect):
            from django_mongo_sessions.engine import signed_in
            run(signed_in.revoke("7", lambda f: True, "admin"))
    finally: session_revoked.disconnect(hear)
    assert load(do) == {}
    assert len(told) == 1
