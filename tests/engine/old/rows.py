"""An engine with a model in its module, as django-user-sessions has it."""

from tests.engine import old


class SessionStore(old.Store):
    pass


class Rows:
    def filter(self, session_key):
        self.key = session_key
        return self

    def first(self):
        old.WORLD.call("row")
        found = old.WORLD.sessions.get(self.key)
        return None if found is None else Session(self.key, found[1])


class Session:
    session_data = expire_date = None
    ip = "203.0.113.7"
    _meta = None

    def __init__(self, key, ends):
        self.session_key, self.expire_date = key, ends


Session.objects = Rows()
