"""A cache that can be listed as one in Redis can, without Redis."""

from fnmatch import fnmatchcase

from django.core.cache.backends.redis import RedisCache


class Client:
    """What Django's Redis cache calls, and what this package calls of redis-py."""

    def __init__(self, servers, **options):
        self.values = {}
        self.lifetimes = {}  # milliseconds

    def get_client(self, key=None, *, write=False):
        return self

    def scan_iter(self, match, count):
        pattern = match.replace("\\[", "[[]").replace("\\]", "]")
        yield from [name.encode() for name in self.values if fnmatchcase(name, pattern)]

    def pipeline(self, transaction):
        return Pipeline(self)

    def has_key(self, name):
        return name in self.values

    def add(self, key, value, timeout):
        self.set(key, value, timeout)
        return True

    def get(self, key, default):
        value = self.values.get(key, default)
        if value == b"no pickle":
            raise ValueError
        return value

    def set(self, key, value, timeout):
        self.values[key] = value
        self.lifetimes[key] = -1 if timeout is None else timeout * 1000

    def get_many(self, names):
        return {name: self.get(name, None) for name in names if name in self.values}

    def delete_many(self, names):
        for name in names:
            del self.values[name]
            del self.lifetimes[name]


class Pipeline:
    """Asks for lifetimes."""

    def __init__(self, client):
        self.client, self.names = client, []

    def pttl(self, name):
        self.names.append(name)

    def execute(self):
        return [self.client.lifetimes.get(name, -2) for name in self.names]


class InMemoryRedis(RedisCache):
    """Django's Redis cache, on a dict."""

    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = Client


class LikeDjangoRedis(InMemoryRedis):
    """A cache with what django-redis has in its place."""

    iter_keys = None

    @property
    def client(self):
        return self._cache


def hidden(key, prefix, version):
    """Return a key that does not begin as others do."""
    return f"{hash(key)}"
