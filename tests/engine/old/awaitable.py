"""An engine with asynchronous methods of its own."""

from tests.engine import old


class SessionStore(old.AwaitableStore):
    pass
