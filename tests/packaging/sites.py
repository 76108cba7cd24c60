"""Sites that `django-admin startproject` makes, and who visits them."""

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPErrorProcessor, ProxyHandler, build_opener

from testproject import mongod

WAIT = 60  # seconds
USER = {"username": "admin", "password": "a password for this site alone"}


class Site:
    """A site in a new folder, and the programs of an environment that has the wheel."""

    def __init__(self, folder, programs):
        self.folder, self.programs = folder, programs
        self.folder.mkdir()
        # Variables that the tests set for themselves, or that would let the site import other code.
        ours = ("DJANGO_", "MONGO", "PYTEST_", "PYTHON", "TOX_")
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(ours)
        }

    def command(self, program, *arguments):
        return [str(self.programs / program), *arguments]

    def run(self, *command, **environment):
        """Run a program of the environment, and return all that it prints."""
        done = subprocess.run(
            self.command(*command),
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def manage(self, *command, **environment):
        return self.run("python", "manage.py", *command, **environment)

    def create_superuser(self):
        self.manage(
            *("createsuperuser", "--noinput", "--email", "admin@example.com"),
            **{f"DJANGO_SUPERUSER_{name.upper()}": value for name, value in USER.items()},
        )

    @contextmanager
    def served(self, *options, log):
        """Serve the site, and yield its address."""
        port = mongod.free_port()
        command = self.command("python", "manage.py", "runserver", "--noreload", str(port))
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*command, *options],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as server,
        ):
            try:
                deadline = time.monotonic() + WAIT
                while not listens(port):
                    waits = server.poll() is None and time.monotonic() < deadline
                    assert waits, log.read_text()
                    time.sleep(0.05)
                yield f"http://127.0.0.1:{port}"
            finally:
                server.kill()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class AsItIs(HTTPErrorProcessor):
    """Return a redirect as a response."""

    def http_response(self, request, response):
        return response


class Browser:
    """What signing in needs: cookies, and forms with their tokens."""

    def __init__(self, address):
        self.address = address
        self._jar = CookieJar()
        handlers = [ProxyHandler({}), HTTPCookieProcessor(self._jar), AsItIs()]
        self._opener = build_opener(*handlers)

    def cookie(self, name):
        return next((cookie.value for cookie in self._jar if cookie.name == name), None)

    def get(self, path, data=None):
        """Return the status, and the page or where the response redirects to."""
        with self._opener.open(self.address + path, data, timeout=WAIT) as response:
            return response.status, response.headers["Location"] or response.read().decode()

    def post(self, path, **form):
        form["csrfmiddlewaretoken"] = self.cookie("csrftoken")
        return self.get(path, urlencode(form).encode())

    def sign_in(self):
        self.get("/admin/login/")
        return self.post("/admin/login/?next=/admin/", **USER)
