"""`manage.py mongosessions`: the indexes, the numbers, and one session behind a cookie."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pprint import pformat
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils.timezone import localtime
from pymongo.errors import PyMongoError

from django_mongo_sessions import (
    clients,
    connection,
    dates,
    documents,
    factories,
    indexes,
    operations,
    refusals,
)
from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.drivers import Verb
from django_mongo_sessions.driving import drive
from django_mongo_sessions.status import SAMPLE, status


class Command(BaseCommand):
    """Look after the sessions in MongoDB."""

    help = "Look after the sessions in MongoDB."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define `indexes`, `status` and `show`."""
        subcommands = parser.add_subparsers(dest="subcommand", required=True)

        command = subcommands.add_parser("indexes", help="Report the indexes, or mend them.")
        command.add_argument("--apply", action="store_true", help="mend what is not right")

        command = subcommands.add_parser("status", help="Show what is stored, and how.")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument(
            "--exact", action="store_true", help="read every session: slow on millions"
        )

        command = subcommands.add_parser("show", help="Show the document of a cookie's value.")
        command.add_argument(
            "key", help="the cookie's value, or - to read it from standard input, unseen by others"
        )
        command.add_argument("--data", action="store_true", help="show the session's data too")

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        """Run a subcommand; what the settings or MongoDB refuse is a CommandError."""
        try:
            if factories.is_mock(clients.sessions().client):
                raise CommandError(
                    "MONGO_SESSIONS leads to mongomock: each process has sessions of its own, and "
                    "this one has none."
                )
            if subcommand == "indexes":
                self._indexes(options["apply"])
            elif subcommand == "status":
                self._status(options["json"], options["exact"])
            else:
                self._show(options["key"], options["data"])
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except PyMongoError as error:
            reason = connection.without_secrets(refusals.reason(error))
            raise CommandError(f"MongoDB did not do it: {reason}") from error

    def _indexes(self, apply: bool) -> None:
        if apply:
            for action in drive(indexes.mending()):
                self.stdout.write(action)
        report = drive(indexes.reporting())
        for index in report:
            self.stdout.write(f"{index.name}: {index.state} {index.detail}".rstrip())
        if any(index.is_wrong for index in report):
            raise CommandError("An index is not right. --apply mends it, and touches no session.")

    def _status(self, as_json: bool, exact: bool) -> None:
        found = status(clients.sessions().sessions, exact)
        if as_json:
            self.stdout.write(json.dumps(found, indent=2, default=_plain))
            return
        found["indexes"] = {
            index["name"]: f"{index['state']} {index['detail']}".strip()
            for index in found["indexes"]
        }
        sessions = found["sessions"]
        estimates = sessions.pop("estimates")
        sessions.update({name: f"about {_text(sessions[name])}" for name in estimates})
        for section, facts in found.items():
            self._write(section, facts)
        if estimates:
            self.stdout.write(
                f"\nWhat is about so much is estimated from {SAMPLE:,} documents: the oldest may "
                "be older, and the largest larger. --exact reads all of them."
            )

    def _write(self, name: str, value: Any, indent: str = "") -> None:
        if isinstance(value, Mapping) and value:
            self.stdout.write(f"{indent}{name}:")
            for inner, part in value.items():
                self._write(inner, part, indent + "  ")
        else:
            self.stdout.write(f"{indent}{name}: {_text(value)}")

    def _show(self, key: str, with_data: bool) -> None:
        if key == "-":
            key = sys.stdin.readline().strip()
        document_id = documents.stored_id(key)
        if document_id is None:
            raise CommandError(
                "That cannot be the value of a session cookie: it has 32 characters of a-z, 0-9."
            )
        document = drive(_reading(document_id))
        if document is None:
            raise CommandError("There is no such session: it was deleted, or was never stored.")
        self._write("_id", document_id.hex())
        for name, value in document.items():
            if name == "expires_at" and isinstance(value, datetime) and value <= dates.utc_now():
                self._write(name, f"{_text(value)}, so it is never read, and not yet removed")
            elif name != "_id":
                self._write(name, value)
        if with_data:
            snapshot = SessionStore(key)._opened(key, document_id, document)
            if not snapshot.opened:
                raise CommandError(
                    "Its payload does not open: it was changed, or sealed with another SECRET_KEY "
                    "or SESSION_SERIALIZER. The log says more."
                )
            self.stdout.write(f"data:\n{pformat(snapshot.data)}")


def _reading(document_id: bytes) -> Verb[Mapping[str, Any] | None]:
    # Not by the store, which never reads what has expired.
    document: Mapping[str, Any] | None = yield operations.find_whole(document_id)
    return document


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        with suppress(OverflowError):  # near the first and the last of dates, and in another zone
            value = localtime(value)
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    # What a visitor had a project store may hold what a terminal obeys.
    return text if text.isprintable() else repr(text)
