"""Users of the site while something breaks, and the responses that they get."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any, NamedTuple

_TIMEOUT = 60  # seconds, more than any server may take
_SIGN_IN = "sign-in/"
_COOKIE = "sessionid"


class Response(NamedTuple):
    """A response, and when it was requested and received, by time.monotonic()."""

    status: int
    headers: dict[str, str]
    body: bytes
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def is_acknowledged(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Keeps the session cookie."""

    def __init__(self, port: int, prefix: str = "/", cookie: str | None = None) -> None:
        self.port, self.prefix, self.cookie = port, prefix, cookie

    def get(self, path: str) -> Response:
        """Request a page, on a connection of its own."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        headers = {"Cookie": f"{_COOKIE}={self.cookie}"} if self.cookie else {}
        connection.request("GET", self.prefix + path, headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        given = reply.getheader("Set-Cookie") or ""
        if given.startswith(f"{_COOKIE}="):
            value = given.partition("=")[2].partition(";")[0].strip('"')
            self.cookie = value or None
        headers_received = {name.lower(): value for name, value in reply.getheaders()}
        return Response(reply.status, headers_received, body, began, time.monotonic())


class Visitor(threading.Thread):
    """Visits a site until it is stopped."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__(daemon=True)
        self.port, self.prefix = port, prefix
        self.responses: list[Response] = []
        self.broken: list[str] = []
        self.failure: BaseException | None = None
        self._ended = threading.Event()

    def visit(self) -> None:
        """Make this visitor's requests once."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self.visit()
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self._ended.set()
        self.join(_TIMEOUT)
        if self.failure:
            raise self.failure

    def ask(self, browser: Browser, path: str) -> Response:
        """Request a page. An error must be a 5xx, and leave the cookie as it is.

        Only a sign-in may have moved the session before the error. Then the cookie has its new key.
        """
        before = browser.cookie
        response = browser.get(path)
        self.responses.append(response)
        if not response.is_acknowledged:
            if not 500 <= response.status < 600:
                self.broken.append(f"{path} returned status {response.status}")
            has_moved = path == _SIGN_IN and browser.cookie is not None
            if browser.cookie != before and not has_moved:
                self.broken.append(f"an error at {path} changed the cookie")
            time.sleep(0.02)
        return response


class Writer(Visitor):
    """Is signed in, and lets the site store one number after another."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__(port, prefix)
        self.browser = Browser(port, prefix)
        assert self.ask(self.browser, "basket/1/").is_acknowledged
        assert self.ask(self.browser, _SIGN_IN).is_acknowledged
        self.acknowledged: list[int] = []
        self._number = 0

    def visit(self) -> None:
        self._number += 1
        if self.ask(self.browser, f"note/{self._number}/").is_acknowledged:
            self.acknowledged.append(self._number)

    def lost(self) -> int:
        """Return how many of the acknowledged numbers are missing."""
        response = self.browser.get("notes/")
        assert response.is_acknowledged, response
        stored = response.json()
        if stored["user"] is None:
            self.broken.append("a user was signed out")
        return len(set(self.acknowledged) - set(stored["notes"]))


class Leaver(Visitor):
    """Signs in and out, and remembers the cookies of its former sessions."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__(port, prefix)
        self.ended: list[str] = []

    def visit(self) -> None:
        browser = Browser(self.port, self.prefix)
        stored = self.ask(browser, "basket/1/").is_acknowledged
        before = browser.cookie
        is_signed_in = self.ask(browser, _SIGN_IN).is_acknowledged
        has_key = is_signed_in or browser.cookie != before
        if stored and has_key and self.ask(browser, "basket/").body == b"None":
            self.broken.append("a login lost what was stored before")
        if is_signed_in:
            cookie = browser.cookie
            assert cookie is not None
            if self.ask(browser, "sign-out/").is_acknowledged:
                self.ended.append(cookie)
        time.sleep(0.05)

    def came_back(self) -> int:
        """Return how many of the signed-out sessions still exist."""
        responses = [Browser(self.port, self.prefix, cookie).get("notes/") for cookie in self.ended]
        return sum(response.json()["user"] is not None for response in responses)
