"""`make demo`: serve the site on a real MongoDB, with one command. Ctrl-C ends both.

`make demo-async` serves it with uvicorn. `make demo ARGS=moving-in` shows how the sessions of
another engine are adopted, and ends.
"""

from __future__ import annotations

import io
import os
import socket
import sys
from contextlib import ExitStack, suppress

import django
from django.core.management import call_command

from testproject import STATE_DIR, USERS, mongod, server


def main() -> None:
    """Start MongoDB if no server is given, migrate, and serve the site until Ctrl-C."""
    port = _port()
    STATE_DIR.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        os.environ["MONGODB_URI"] = _mongodb(stack)
        os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"  # it reads MONGODB_URI
        django.setup()
        from django_mongo_sessions.backends.mongodb import SessionStore
        from django_mongo_sessions.testing import reset

        stack.callback(reset)  # before the server ends, or the client would look for it
        call_command("migrate", verbosity=0)
        # After its first insert, a process looks at the indexes. The page would show that as what
        # the visitor's first action has sent.
        session = SessionStore()
        session.save()
        session.delete()
        _make_demo_users()
        if "moving-in" in sys.argv[1:]:
            from testproject import moving_in

            moving_in.show()
            return
        print(f"There are two users, {' and '.join(USERS)}. The password is the name.")
        print(f"Open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends the demo.", flush=True)
        if "async" in sys.argv[1:]:
            _serve_async(port)
        else:
            unseen = io.StringIO()  # Django's own greeting, which says less
            call_command(
                *("runserver", f"127.0.0.1:{port}"),
                use_reloader=False,
                insecure_serving=True,  # static files, which Django serves only with DEBUG
                stdout=unseen,
            )


def _serve_async(port: int) -> None:
    import uvicorn
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
    from django.core.asgi import get_asgi_application

    site = ASGIStaticFilesHandler(get_asgi_application())
    with suppress(KeyboardInterrupt):  # which uvicorn raises when it has ended
        uvicorn.run(site, port=port, lifespan="off", log_level="warning")


def _port() -> int:
    """Return the port of 127.0.0.1 to serve on; exit with a message if it cannot be used."""
    given = os.environ.get("PORT", "8000")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(given)))
    except (ValueError, OverflowError, OSError) as error:
        sys.exit(f"Port {given} is not available: {error}. Choose another: make demo PORT=8001")
    return int(given)


def _mongodb(stack: ExitStack) -> str:
    """Return the URI of the user's server, else of a mongod that is started, else of mongomock."""
    try:
        if given := os.environ.get("MONGODB_URI"):
            return mongod.reached(given)
        own = server.Server(STATE_DIR / "mongod")
        stack.callback(own.stop)
        uri = own.start()
        server.own = own
        return uri
    except mongod.NoMongodError as error:
        print(f"{error}\nThe demo runs on mongomock instead: its sessions end with it.", flush=True)
        return "mongomock://"
    except mongod.MongodError as error:
        sys.exit(str(error))


def _make_demo_users() -> None:
    from django.contrib.auth.models import User

    for name in USERS:
        if not User.objects.filter(username=name).exists():
            is_staff = name == USERS[0]
            User.objects.create_user(name, password=name, is_staff=is_staff, is_superuser=is_staff)


if __name__ == "__main__":
    main()
