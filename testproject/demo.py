"""`make demo`: the site on a real MongoDB, from one command. Ctrl-C ends both."""

from __future__ import annotations

import io
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import django
from django.core.management import call_command

from testproject import STATE_DIR, mongod


def main() -> None:
    """Start MongoDB where none is named, migrate, and serve the site until Ctrl-C."""
    port = _port()
    STATE_DIR.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not os.environ.get("MONGODB_URI"):
            os.environ["MONGODB_URI"] = _start_mongod(stack, STATE_DIR / "mongod")
        os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"  # it reads the line above
        django.setup()
        call_command("migrate", verbosity=0)
        _make_demo_user()
        print(f"Open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends the demo.", flush=True)
        unseen = io.StringIO()  # the server's own greeting, which says less
        call_command("runserver", f"127.0.0.1:{port}", use_reloader=False, stdout=unseen)


def _port() -> int:
    """Return the port of 127.0.0.1 to serve on; say so and exit where it cannot be had."""
    given = os.environ.get("PORT", "8000")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(given)))
    except (ValueError, OverflowError, OSError) as error:
        sys.exit(f"Port {given} cannot be had: {error}. Choose another: make demo PORT=8001")
    return int(given)


def _start_mongod(stack: ExitStack, data: Path) -> str:
    try:
        return stack.enter_context(mongod.running(data))
    except mongod.MongodError as error:
        print(f"{error}\nThe demo runs on mongomock instead: sessions end with it.", flush=True)
        return "mongomock://"


def _make_demo_user() -> None:
    from django.contrib.auth.models import User

    if not User.objects.filter(username="demo").exists():
        User.objects.create_superuser("demo", password="demo")


if __name__ == "__main__":
    main()
