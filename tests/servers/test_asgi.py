"""The servers that serve asynchronous sites: requests that overlap, a reload, a graceful stop."""

import http.client
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.servers.processes import WAIT

# In development mode, Python warns of what is left open and of tasks that are never awaited.
# That servers fork is theirs to say.
PYTHON = ["-X", "dev", "-W", "ignore:This process:DeprecationWarning", "-m"]
SITE = "tests.servers.asgi:application"
UVICORN = [*PYTHON, "uvicorn", "--port={port}", "--timeout-graceful-shutdown=5", SITE]
SERVERS = {
    "uvicorn, asyncio": [*UVICORN, "--loop=asyncio"],
    "uvicorn, uvloop": [*UVICORN, "--loop=uvloop"],
    "uvicorn, 2 workers": [*UVICORN, "--workers=2"],
    "hypercorn": [
        *(*PYTHON, "hypercorn", "--bind=127.0.0.1:{port}", "--graceful-timeout=5", SITE),
    ],
    "daphne": [*PYTHON, "daphne", "-b", "127.0.0.1", "-p", "{port}", SITE],
    "granian": [
        *(*PYTHON, "granian", "--interface=asginl", "--host=127.0.0.1", "--port={port}"),
        *("--workers-kill-timeout=5", SITE),
    ],
    "gunicorn, uvicorn's workers": [
        *(*PYTHON, "gunicorn", "--bind=127.0.0.1:{port}", "--workers=2", "--graceful-timeout=5"),
        *("--worker-class=uvicorn_worker.UvicornWorker", SITE),
    ],
}
# By which signal a server begins its workers anew. The others are stopped and started.
RELOADS = {
    "uvicorn, 2 workers": signal.SIGHUP,
    "granian": signal.SIGHUP,
    "gunicorn, uvicorn's workers": signal.SIGHUP,
}
CLIENTS = 8
UNWANTED = re.compile(
    r"warning|traceback|different event loop|was destroyed|never awaited|unclosed", re.I
)


# The servers' own: a socket that they listen on, and that Django knows no lifespan.
THEIRS = r"unclosed .*laddr=\('127.0.0.1', {port}\)>$|Enable tracemalloc|Lifespan error"
LOST = (OSError, http.client.HTTPException)


class Browser:
    """A client with a cookie, which tries again if a connection is lost in a reload."""

    def __init__(self, port):
        self.port, self.cookie = port, None

    def get(self, path):
        deadline = time.monotonic() + WAIT
        while True:
            with suppress(*LOST):
                return self.get_once(path)
            assert time.monotonic() < deadline, "the server no longer responds"
            time.sleep(0.05)

    def get_once(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        try:
            connection.request("GET", path, headers=self.cookie or {})
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 200, text
            if given := response.getheader("Set-Cookie"):
                self.cookie = {"Cookie": given.partition(";")[0]}
            return text
        finally:
            connection.close()


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.parametrize("name", SERVERS)
def test_requests_overlap_during_a_reload_and_the_last_ones_finish(serve, name):
    server = serve(SERVERS[name])
    servers = [server]
    browsers = [Browser(server.port) for _ in range(CLIENTS)]
    until(lambda: "native" in browsers[0].get("/whose/"))

    with ThreadPoolExecutor(CLIENTS) as pool:

        def everybody(path):
            return list(pool.map(lambda browser: browser.get(path), browsers))

        for number in range(1, 51):
            assert everybody("/count/") == [str(number)] * CLIENTS
        before = {process.split()[0] for process in everybody("/whose/")}
        if name in RELOADS:
            server.process.send_signal(RELOADS[name])
            until(lambda: browsers[0].get("/whose/").split()[0] not in before)
        else:
            server.stop()
            server = serve(SERVERS[name])
            servers.append(server)
            for browser in browsers:
                browser.port = server.port
        assert everybody("/count/") == ["51"] * CLIENTS
        until(lambda: "native" in browsers[0].get("/whose/"))

        last = [pool.submit(browser.get_once, "/slowly/") for browser in browsers]
        until(lambda: server.log.read_text().count("under way") == CLIENTS)
        seconds = server.stop()
        for answer in last:
            if name == "daphne":  # it lets no request finish
                with pytest.raises(LOST):
                    answer.result()
            else:
                assert answer.result() == "52"

    print(f"{name}: stopped within {seconds:.1f} s, with requests of one second under way")
    for server in servers:
        assert server.process.returncode in (0, -signal.SIGTERM)
        theirs = re.compile(THEIRS.format(port=server.port))
        for line in server.log.read_text().splitlines():
            assert theirs.search(line) or not UNWANTED.search(line), line
