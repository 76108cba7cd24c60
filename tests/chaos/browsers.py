"""Those who use the site while something breaks, and what they were told."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any, NamedTuple

_PATIENCE = 60  # seconds, more than any server may take
_COOKIE = "sessionid"


class Answer(NamedTuple):
    """An answer to a request, and when it came. Times are by time.monotonic()."""

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
    """Keeps the cookie that it is given."""

    def __init__(self, port: int, prefix: str = "/", cookie: str | None = None) -> None:
        self.port, self.prefix, self.cookie = port, prefix, cookie

    def get(self, path: str) -> Answer:
        """Request a page, on a connection of its own."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        headers = {"Cookie": f"{_COOKIE}={self.cookie}"} if self.cookie else {}
        connection.request("GET", self.prefix + path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        given = response.getheader("Set-Cookie") or ""
        if given.startswith(f"{_COOKIE}="):
            value = given.partition("=")[2].partition(";")[0].strip('"')
            self.cookie = value or None
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, body, began, time.monotonic())


class Visitor(threading.Thread):
    """Visits a site until it is stopped."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__(daemon=True)
        self.port, self.prefix = port, prefix
        self.answers: list[Answer] = []
        self.broken: list[str] = []
        self.failure: BaseException | None = None
        self._ended = threading.Event()

    def visit(self) -> None:
        """Do what this visitor does, once."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self.visit()
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self._ended.set()
        self.join(_PATIENCE)
        if self.failure:
            raise self.failure

    def ask(self, browser: Browser, path: str) -> Answer:
        """Request a page; an error must be a 5xx that leaves the cookie."""
        before = browser.cookie
        answer = browser.get(path)
        self.answers.append(answer)
        if not answer.is_acknowledged:
            if not 500 <= answer.status < 600:
                self.broken.append(f"{path} was answered with {answer.status}")
            if browser.cookie != before:
                self.broken.append(f"an error at {path} changed the cookie")
            time.sleep(0.02)
        return answer


class Writer(Visitor):
    """Is signed in, and lets the site keep one number after another."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__(port, prefix)
        self.browser = Browser(port, prefix)
        assert self.ask(self.browser, "basket/1/").is_acknowledged
        assert self.ask(self.browser, "sign-in/").is_acknowledged
        self.acknowledged: list[int] = []
        self._number = 0

    def visit(self) -> None:
        self._number += 1
        if self.ask(self.browser, f"note/{self._number}/").is_acknowledged:
            self.acknowledged.append(self._number)

    def lost(self) -> int:
        """Return how many of the numbers that were acknowledged are not there."""
        answer = self.browser.get("notes/")
        assert answer.is_acknowledged, answer
        told = answer.json()
        if told["user"] is None:
            self.broken.append("somebody was signed out")
        return len(set(self.acknowledged) - set(told["notes"]))


class Leaver(Visitor):
    """Signs in and out, and keeps the cookies of the sessions that have ended."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__(port, prefix)
        self.ended: list[str] = []

    def visit(self) -> None:
        browser = Browser(self.port, self.prefix)
        stored = self.ask(browser, "basket/1/").is_acknowledged
        if self.ask(browser, "sign-in/").is_acknowledged:
            if stored and self.ask(browser, "basket/").body == b"None":
                self.broken.append("a login has lost what was stored before")
            cookie = browser.cookie
            assert cookie is not None
            if self.ask(browser, "sign-out/").is_acknowledged:
                self.ended.append(cookie)
        time.sleep(0.05)

    def came_back(self) -> int:
        """Return how many of the sessions that were signed out are there."""
        answers = [Browser(self.port, self.prefix, cookie).get("notes/") for cookie in self.ended]
        return sum(answer.json()["user"] is not None for answer in answers)
