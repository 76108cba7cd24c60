"""Caches that can be listed as those in Redis can, without Redis."""

from fnmatch import fnmatchcase

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache


class LikeDjangoRedis(LocMemCache):
    """A cache with what django-redis adds to Django's interface."""

    def iter_keys(self, search, itersize=None):
        start = self.make_key("")
        for name in list(self._cache):
            if fnmatchcase(name.removeprefix(start), search):
                yield name.removeprefix(start)

    def pttl(self, key):
        name = self.make_key(key)
        if name not in self._cache:
            return 0
        ends = self._expire_info[name]
        return None if ends is None else 60_000


class Client:
    """What Django's Redis cache calls, and what this package calls of that."""

    values: dict = {}
    lifetimes: dict = {}

    def __init__(self, servers, **options):
        self._servers = servers

    def get_client(self, key=None, *, write=False):
        return self

    def scan_iter(self, match, count):
        pattern = match.replace("\\[", "[[]").replace("\\]", "]")
        return [name.encode() for name in self.values if fnmatchcase(name, pattern)]

    def pttl(self, name):
        return self.lifetimes.get(name, -2)

    def has_key(self, name):
        return name in self.values

    def add(self, key, value, timeout):
        self.set(key, value, timeout)
        return True

    def get(self, key, default):
        return self.values.get(key, default)

    def set(self, key, value, timeout):
        self.values[key] = value
        self.lifetimes[key] = -1 if timeout is None else timeout * 1000

    def get_many(self, names):
        return {name: self.values[name] for name in names if name in self.values}

    def delete_many(self, names):
        for name in names:
            del self.values[name]
            del self.lifetimes[name]


class InMemoryRedis(RedisCache):
    """Django's Redis cache, on a dict."""

    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = Client


def hidden(key, prefix, version):
    """Return a key that does not begin as others do."""
    return f"{hash(key)}"
