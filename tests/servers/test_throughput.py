"""How many requests an asynchronous site serves, compared with Django's engine on PostgreSQL."""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import pytest

from benchmarks import servers
from tests.servers.test_asgi import Browser

DB = "django.contrib.sessions.backends.db"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
UVICORN = [
    *("-m", "uvicorn", "--port={port}", "--log-level=warning", "tests.servers.asgi:application")
]
CONNECTIONS = 64
SESSIONS = 256
ROUNDS, SECONDS = 3, 5
# wrk asks for a page that reads and writes, with one session after the other.
SCRIPT = """
local cookies, turn = {}, 0
for line in io.lines(os.getenv("COOKIES")) do cookies[#cookies + 1] = line end
request = function()
    turn = turn % #cookies + 1
    return wrk.format("GET", "/count/", {["Cookie"] = cookies[turn]})
end
"""


@pytest.fixture
def postgresql():
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL's user has to find its data in there
        with servers.postgresql(Path(folder, "data")) as port:
            yield str(port)


@pytest.fixture
def wrk(tmp_path):
    """`wrk(server, cookies)` puts load on a server, and returns requests per second."""
    program = shutil.which("wrk")
    if program is None:
        pytest.fail("The client of this test is wrk. On Debian: apt-get install wrk")
    script = tmp_path / "count.lua"
    script.write_text(SCRIPT)

    def load(server, cookies):
        ended = subprocess.run(
            [
                *(program, "--threads=1", f"--connections={CONNECTIONS}"),
                *(f"--duration={SECONDS}s", f"--script={script}"),
                f"http://127.0.0.1:{server.port}",
            ],
            env={**os.environ, "COOKIES": str(cookies)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Non-2xx" not in ended.stdout, ended.stdout
        assert "Socket errors" not in ended.stdout, ended.stdout
        return float(re.search(r"Requests/sec: +([\d.]+)", ended.stdout)[1])

    return load


def cookies_of(server, file):
    """Begin sessions at a server, and write their cookies into a file."""
    browsers = [Browser(server.port) for _ in range(SESSIONS)]
    for browser in browsers:
        assert browser.get("/count/") == "1"
    file.write_text("\n".join(browser.cookie["Cookie"] for browser in browsers))
    return file


# PostgreSQL first: it waits for the sites to hang up before it ends, and so must end after them.
def test_a_site_serves_more_requests_than_with_djangos_engine(postgresql, serve, wrk, tmp_path):
    sites = {
        "ours, our middleware": serve(UVICORN),
        "ours, Django's middleware": serve(UVICORN, SITE_MIDDLEWARE=DJANGOS),
        "db, Django's middleware": serve(
            UVICORN, DB, SITE_MIDDLEWARE=DJANGOS, SITE_POSTGRESQL=postgresql
        ),
        "db with a pool, Django's middleware": serve(
            *(UVICORN, DB), SITE_MIDDLEWARE=DJANGOS, SITE_POSTGRESQL=postgresql, SITE_POOL="1"
        ),
    }
    cookies = {
        name: cookies_of(site, tmp_path / f"cookies{number}")
        for number, (name, site) in enumerate(sites.items())
    }

    answered = {name: [] for name in sites}
    for _ in range(ROUNDS):
        for name, site in sites.items():
            answered[name].append(wrk(site, cookies[name]))

    medians = {name: statistics.median(rates) for name, rates in answered.items()}
    ours = medians["ours, our middleware"]
    for name, median in medians.items():
        print(f"{name}: {median:.0f} requests a second, of which ours is {ours / median:.1f} times")
    assert ours > medians["db, Django's middleware"]
