"""The demo, and its mongod: started as processes, waited for, and never left behind."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from testproject import mongod
from tests.servers.processes import WAIT

ROOT = Path(__file__).resolve().parents[2]


def answers(uri):
    with MongoClient(uri, serverSelectionTimeoutMS=300) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
        return True


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def start():
    """Start a program in a process group of its own, and kill that group at the end."""
    started = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Where the tests run in the background, Ctrl-C is ignored, and would be here too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_runs_as_long_as_the_block_and_keeps_its_data(tmp_path):
    for count in (1, 2):
        with mongod.running(tmp_path / "data") as uri, MongoClient(uri) as client:
            client.test.kept.insert_one({})
            assert client.test.kept.count_documents({}) == count
        assert not answers(uri)


def test_it_ends_when_its_parent_is_killed(start, tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from testproject import mongod\n"
        "with mongod.running(Path(sys.argv[1])) as uri: print(uri); time.sleep(600)"
    )
    parent = start("-c", program, str(tmp_path / "data"))
    uri = parent.stdout.readline().strip()
    assert answers(uri)

    parent.kill()

    until(lambda: not answers(uri))


def test_a_mongod_that_logs_an_error_shows_it(tmp_path):
    with (
        mongod.running(tmp_path / "data"),
        pytest.raises(mongod.MongodError, match="DBPathInUse"),
        mongod.running(tmp_path / "data"),
    ):
        pass


# The demo


def demo(start, *arguments, **environment):
    """Start the demo on a free port, with its data elsewhere; return it and its address."""
    port = str(mongod.free_port())
    process = start("-m", "testproject.demo", *arguments, PORT=port, **environment)
    lines = []
    while not (lines and lines[-1].startswith("Open ")):
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
    return process, f"http://127.0.0.1:{port}/", lines


def get(address):
    with urllib.request.urlopen(address, timeout=WAIT) as response:
        return response.read().decode()


def served(address):
    try:
        return get(address)
    except OSError:
        return None


@pytest.mark.parametrize("arguments", [[], ["async"]], ids=["runserver", "uvicorn"])
def test_the_demo_serves_the_site_until_ctrl_c(start, tmp_path, arguments):
    process, address, lines = demo(start, *arguments, DEMO_STATE=str(tmp_path), MONGODB_URI="")
    assert lines == [
        "There are two users, demo and alice. The password is the name.\n",
        f"Open {address} in a browser; Ctrl-C ends the demo.\n",
    ]
    until(lambda: served(address))
    assert get(f"{address}setsession/") == "The Session has been successfully set"
    assert "{" in get(f"{address}static/testproject/site.css")
    log = (tmp_path / "mongod.log").read_text()
    [pid] = [part.split(",")[0] for part in log.split('"pid":')[1:2]]

    os.killpg(process.pid, signal.SIGINT)

    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "Traceback" not in output
    assert "pymongo" not in output.lower()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


class Browser:
    """Keeps cookies, and sends the forms of the demo."""

    def __init__(self, address):
        self.address, self.cookies = address, CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def open(self, path, **form):
        """Return the status and the text of a page, after a form if there is one."""
        token = {each.name: each.value for each in self.cookies}.get("mongo_sessions_demo_csrf")
        sent = urlencode({"csrfmiddlewaretoken": token, **form}).encode() if form else None
        try:
            with self.opener.open(f"{self.address}{path}", sent, timeout=WAIT) as response:
                return response.status, " ".join(response.read().decode().split())
        except urllib.error.HTTPError as error:
            with error:
                return error.status, " ".join(error.read().decode().split())


@pytest.mark.parametrize("arguments", [[], ["async"]], ids=["runserver", "uvicorn"])
def test_the_page_stops_mongodb_and_starts_it_and_the_session_is_still_there(
    start, tmp_path, arguments
):
    _, address, _ = demo(start, *arguments, DEMO_STATE=str(tmp_path), MONGODB_URI="")
    until(lambda: served(address))
    browser = Browser(address)
    browser.open("")
    _, text = browser.open("do/set_key/", key="city", value="Meiringen")
    assert "1 command sent to MongoDB: insert" in text
    assert {each.name for each in browser.cookies} == {
        "mongo_sessions_demo",
        "mongo_sessions_demo_csrf",
    }

    status, text = browser.open("mongodb/stop/", yes="")

    assert status == 503
    assert 'href="/mongodb/">See whether MongoDB runs' in text
    assert browser.open("")[0] == 503
    status, text = browser.open("mongodb/")
    assert status == 200
    assert "MongoDB is stopped" in text

    status, text = browser.open("mongodb/start/", yes="")

    assert status == 200
    assert "MongoDB runs again, and sessions are what they were." in text
    assert "Meiringen" in text
    _, text = browser.open("do/set_key/", key="city", value="London")
    assert "2 commands sent to MongoDB: find, update" in text


def test_the_demo_runs_on_mongomock_without_a_mongod(start, tmp_path):
    _, address, lines = demo(start, DEMO_STATE=str(tmp_path), MONGODB_URI="", MONGOD="/no/mongod")

    assert "The demo runs on mongomock instead" in "".join(lines)
    until(lambda: served(address))
    assert get(f"{address}getsession/") == "The Book Name is: None"


def test_the_demo_does_not_start_without_the_server_that_is_named(start, tmp_path):
    nowhere = "mongodb://127.0.0.1:1/?timeoutMS=100"
    process = start("-m", "testproject.demo", DEMO_STATE=str(tmp_path), MONGODB_URI=nowhere)

    output, _ = process.communicate(timeout=WAIT)

    assert process.returncode == 1
    assert output.startswith("MONGODB_URI: ")


@pytest.mark.parametrize("port", ["text", "99999"])
def test_a_port_that_is_not_available_is_named(start, tmp_path, port):
    process = start("-m", "testproject.demo", PORT=port, DEMO_STATE=str(tmp_path))

    output, _ = process.communicate(timeout=WAIT)

    assert process.returncode == 1
    assert output.startswith(f"Port {port} is not available")
