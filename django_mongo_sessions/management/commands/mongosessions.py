"""`manage.py mongosessions`: indexes, numbers, users, one session, encryption, and imports."""

from __future__ import annotations

import json
import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pprint import pformat
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, DjangoHelpFormatter
from django.utils.timezone import localtime
from pymongo.errors import PyMongoError

from django_mongo_sessions.backends.mongodb import SessionStore
from django_mongo_sessions.checks.settings import STORE, uses_engine
from django_mongo_sessions.conf import conf
from django_mongo_sessions.connection import clients, collection, errors
from django_mongo_sessions.engine import adopting, deleting, loading, signed_in
from django_mongo_sessions.exceptions import KeysUnavailable
from django_mongo_sessions.management import encrypting, progress
from django_mongo_sessions.management.importing import BATCH, Import
from django_mongo_sessions.management.sources import SourceError
from django_mongo_sessions.mongo import bulk, indexes, operations
from django_mongo_sessions.mongo.runner import Steps, run, single
from django_mongo_sessions.mongo.status import SAMPLE, status
from django_mongo_sessions.storage import dates, documents, keyring


class _SharedOptions(BaseCommand):
    """The options of every command of Django's, for a subcommand to take them after its name.

    One that is left out there has no default, which would replace what was given before the name.
    """

    def add_base_argument(self, parser: Any, *args: Any, **kwargs: Any) -> None:
        """Add an option without its default."""
        super().add_base_argument(parser, *args, **{**kwargs, "default": SUPPRESS})


class Command(BaseCommand):
    """Manage the sessions in MongoDB."""

    help = "Manage the sessions in MongoDB."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the subcommands."""
        subcommands = parser.add_subparsers(dest="subcommand", required=True)
        shared = _SharedOptions().create_parser("", "", add_help=False, argument_default=SUPPRESS)

        def add(name: str, summary: str) -> ArgumentParser:
            return subcommands.add_parser(
                name,
                help=summary,
                description=summary,
                parents=[shared],
                formatter_class=DjangoHelpFormatter,
            )

        command = add("indexes", "Report on the indexes, or correct them.")
        command.add_argument("--apply", action="store_true", help="create or correct the indexes")

        command = add("status", "Show what is stored, and how.")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument(
            "--exact", action="store_true", help="read every session: slow with millions"
        )

        command = add("show", "Show the document of a session cookie.")
        command.add_argument(
            "key",
            help="the cookie's value, or - to read it from standard input, where others cannot "
            "see it",
        )
        command.add_argument("--data", action="store_true", help="show the session's data too")

        command = add("users", "Show who is signed in, and how often.")
        command.add_argument("--json", action="store_true", help="print JSON")

        command = add("revoke", "End sessions.")
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("--user", metavar="ID", help="the sessions of the user with this id")
        which.add_argument(
            "--key",
            help="the session of a cookie, by its value, or - to read it from standard input",
        )
        which.add_argument("--all", action="store_true", help="every session of everybody")
        command.add_argument("--yes", action="store_true", help="do not ask")
        command.add_argument("--json", action="store_true", help="print JSON")

        add("newkey", "Print a new key for ENCRYPTION_KEYS.")

        command = add("encrypt", "Encrypt what is stored with the first of the ENCRYPTION_KEYS.")
        command.add_argument("--dry-run", action="store_true", help="change nothing")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument(
            "--sign-out-others",
            action="store_true",
            help="end the sessions that the command cannot encrypt",
        )

        command = add("import", "Import the sessions of another engine.")
        command.add_argument(
            "engine",
            help="such as django.contrib.sessions.backends.db; or a function that yields (key, "
            "data, expires_at, fields)",
        )
        command.add_argument("--dry-run", action="store_true", help="change nothing, only count")
        what = command.add_mutually_exclusive_group()
        what.add_argument(
            "--take", action="store_true", help="delete there what is verified to be here"
        )
        what.add_argument(
            "--finish",
            action="store_true",
            help="import nothing: end those unused copies whose sessions have ended there",
        )
        command.add_argument(
            "--batch",
            type=_positive,
            default=BATCH,
            metavar="N",
            help="sessions at a time; %(default)s",
        )
        command.add_argument(
            "--verify",
            choices=("all", "sample"),
            default="all",
            help="read back all sessions, or one of a hundred; %(default)s",
        )
        command.add_argument("--json", action="store_true", help="print JSON")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the command line. If the output is closed early, as by `| head`, end quietly."""
        try:
            try:
                super().run_from_argv(argv)
            finally:
                self.stdout.flush()
        except BrokenPipeError:
            output: Any = self.stdout._out
            # Python flushes what is left at exit, which would fail too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
            sys.exit(1)

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run without system checks if a key is to be made: E016 itself says to make one."""
        if options.get("subcommand") == "newkey":
            options["skip_checks"] = True
        return super().execute(*args, **options)

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        """Run a subcommand. Wrong settings and PyMongo's errors become a CommandError."""
        self._is_quiet = options["verbosity"] == 0 and not options.get("dry_run")
        if subcommand == "newkey":
            self._newkey()
            return
        try:
            if collection.is_mock(clients.collection().client):
                raise CommandError(
                    "MONGO_SESSIONS uses mongomock: each process has its own sessions, and this "
                    "one has none."
                )
            if subcommand == "indexes":
                self._indexes(options["apply"])
            elif subcommand == "status":
                self._status(options["json"], options["exact"])
            elif subcommand == "users":
                self._users(options["json"])
            elif subcommand == "revoke":
                self._revoke(options)
            elif subcommand == "encrypt":
                self._encrypt(options["dry_run"], options["json"], options["sign_out_others"])
            elif subcommand == "import":
                self._import(options)
            else:
                self._show(options["key"], options["data"])
        except KeyboardInterrupt:
            raise CommandError("Interrupted.") from None
        except (ImproperlyConfigured, KeysUnavailable) as error:
            raise CommandError(str(error)) from error
        except PyMongoError as error:
            reason = collection.without_secrets(errors.explain(error))
            what_to_try = f". {advice}" if (advice := errors.advice(error)) else ""
            raise CommandError(f"This could not be done: {_escape(reason)}{what_to_try}") from error
        except SourceError as error:
            raise CommandError(_escape(error)) from error

    def _tell(self, text: str) -> None:
        """Print what was done, unless `-v 0` says not to."""
        if not self._is_quiet:
            self.stdout.write(text)

    def _indexes(self, apply: bool) -> None:
        if apply:
            for action in run(indexes.mend()) or ["nothing to do"]:
                self._tell(_escape(action))
        report = run(indexes.report())
        for index in report:
            if index.is_wrong or not self._is_quiet:
                self.stdout.write(_escape(f"{index.name}: {index.state} {index.detail}".rstrip()))
        if any(index.is_wrong for index in report):
            raise CommandError("An index is wrong. --apply corrects it, and changes no session.")

    def _status(self, as_json: bool, exact: bool) -> None:
        run(single(operations.ping()))  # an outage ends the command soon
        found = {
            "SESSION_ENGINE": {"name": conf.SESSION_ENGINE, "is_this_engine": uses_engine()},
            **status(clients.collection().collection, exact),
        }
        if as_json:
            self.stdout.write(json.dumps(found, indent=2, default=_plain))
            return
        found["SESSION_ENGINE"] = _engine()
        found["indexes"] = {
            index["name"]: f"{index['state']} {index['detail']}".strip()
            for index in found["indexes"]
        }
        sessions = found["sessions"]
        estimates = sessions.pop("estimates")
        sessions.update({name: f"about {_text(sessions[name])}" for name in estimates})
        if estimates and found["encryption"] is not None:
            found["encryption"]["figures"] = "estimated too"
        for section, facts in found.items():
            self._write(section, facts)
        if estimates:
            self.stdout.write(
                f"\nFigures marked 'about' are estimated from a sample of {SAMPLE:,} documents. "
                "--exact reads all of them."
            )

    def _write(self, name: str, value: Any, indent: str = "") -> None:
        if isinstance(value, Mapping) and value:
            self.stdout.write(f"{indent}{_escape(name)}:")
            for inner, part in value.items():
                self._write(inner, part, indent + "  ")
        else:
            self.stdout.write(f"{indent}{_escape(name)}: {_text(value)}")

    def _users(self, as_json: bool) -> None:
        counts = run(_counts())
        if as_json:
            self.stdout.write(json.dumps(counts, indent=2))
            return
        for user_id, count in counts.items():
            self.stdout.write(f"{_escape(user_id)}: {_times(count)}")
        if not counts:
            self.stdout.write("Nobody is signed in.")

    def _revoke(self, options: Mapping[str, Any]) -> None:
        is_sure = options["yes"]
        if options["all"]:
            count = run(single(operations.estimated_count()))
            what, steps = f"all sessions of everybody, about {count:,}", deleting.clear_all()
        elif options["user"] is not None:
            count = len(run(signed_in.find(options["user"])))
            what = f"{_times(count)} of the user {_escape(options['user'])}"
            is_sure = is_sure or not count
            steps = _end_user(options["user"])
        else:
            what, steps = "the session of this cookie", _end_key(_key(options["key"]))
        if not is_sure and not self._agrees(what):
            raise CommandError("Nothing was ended.")
        try:
            ended = run(steps)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Some sessions may have ended: run it again.") from None
        if options["json"]:
            self.stdout.write(json.dumps({"ended": ended}))
        else:
            self._tell(f"{_times(ended)} ended.")

    def _import(self, options: Mapping[str, Any]) -> None:
        job = Import(
            options["engine"],
            size=options["batch"],
            is_trial=options["dry_run"],
            takes=options["take"],
            finishes=options["finish"],
            verifies_all=options["verify"] == "all",
        )
        try:
            if self._is_quiet:
                for _ in job.run():
                    pass
            else:
                progress.show(job.run(), job.total, self.stderr._out)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Run it again: it goes on where it was.") from None
        finally:
            report = job.report()
            if options["json"]:
                self.stdout.write(json.dumps(report))
            elif job.left or not self._is_quiet:
                for name, value in report.items():
                    is_done = name in ("imported", "ended")
                    prefix = "to be " if is_done and options["dry_run"] else ""
                    if value or is_done:
                        self._write(prefix + name.replace("_", " "), value)
        if job.left:
            raise CommandError(
                f"{_times(job.left)} could not be imported, and may still be in use. Each "
                "of them is left where it is."
            )

    def _agrees(self, what: str) -> bool:
        # Not to the standard output, which may be read as JSON.
        question = f"This ends {what}. Type 'yes' to continue: "
        self.stderr.write(question, style_func=str, ending="")
        self.stderr.flush()
        try:
            return sys.stdin.readline().strip() == "yes"
        except KeyboardInterrupt:
            self.stderr.write("")
            return False

    def _newkey(self) -> None:
        text, key_id = keyring.new_key()
        self.stdout.write(text)
        if not self._is_quiet:
            told = f"Its id is {key_id}. Keep it as you keep SECRET_KEY."
            self.stderr.write(told, style_func=str)

    def _encrypt(self, dry_run: bool, as_json: bool, sign_out_others: bool) -> None:
        try:
            report = run(encrypting.encrypt(dry_run, sign_out_others, self._show_progress))
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Run it again: it goes on where it stopped.") from None
        if as_json:
            self.stdout.write(json.dumps(report.as_dict(), indent=2, default=_plain))
        else:
            encrypted = "To be encrypted" if dry_run else "Encrypted"
            self._tell(f"{encrypted} with the key {report.key_id}: {_times(report.encrypted)}.")
            for key_id, bound in report.bound.items():
                self._tell(
                    f"Encrypted with the key {key_id}, and opened only by their cookies: "
                    f"{_times(bound.count)}. The last one expires on {_text(bound.until)}."
                )
            if sign_out_others:
                self._tell(f"Ended: {_times(report.signed_out)}.")
        if report.unopened and (dry_run or not sign_out_others):
            raise CommandError(f"{_times(report.unopened)} cannot be opened with these settings.")

    def _show_progress(self, seen: int) -> None:
        if self.stderr.isatty() and not self._is_quiet:
            self.stderr.write(f"{_times(seen)} read", style_func=str, ending="\r")

    def _show(self, key: str, with_data: bool) -> None:
        key = _key(key)
        shown = SessionStore(key).describe(with_data=with_data)
        if shown is None:
            raise CommandError(
                "There is no such session: it was deleted, has moved to another key, or was never "
                "stored."
            )
        data = shown.pop("data", None)
        if isinstance(payload := shown["payload"], Mapping):
            shown["payload"] = f"{payload['bytes']:,} bytes, {payload['form_name']}"
        for name, value in shown.items():
            if name == "expires_at" and isinstance(value, datetime) and value <= dates.utc_now():
                value = f"{_text(value)}, so it is never read, and not removed yet"
            self._write(name, value)
        if with_data:
            if data is None:
                raise CommandError(
                    "The payload does not open: it was changed, or was stored with another "
                    "SECRET_KEY, ENCRYPTION_KEYS or SESSION_SERIALIZER. The log says more."
                )
            lines = pformat(data).splitlines()
            self.stdout.write("\n".join(["data:", *map(_escape, lines)]))


def _engine() -> str:
    """Return the name of SESSION_ENGINE, and what it has to do with this engine."""
    name = conf.SESSION_ENGINE
    if not uses_engine():
        return f"{name}, which is not this engine: the site stores no sessions here"
    return name if f"{name}.SessionStore" == STORE else f"{name}, which derives from this engine"


def _key(given: str) -> str:
    """Return the value of a cookie, which `-` takes from standard input."""
    key = sys.stdin.readline().strip() if given == "-" else given
    if documents.document_id(key) is None:
        raise CommandError(
            "This is not the value of a session cookie, which has 32 characters of a-z, 0-9."
        )
    return key


def _positive(given: str) -> int:
    try:
        count = int(given)
    except ValueError:
        count = 0
    if count < 1:
        raise ArgumentTypeError(f"a whole number above 0 is needed, and not {given!r}")
    return count


def _times(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"


def _counts() -> Steps[dict[str, int]]:
    yield operations.ping()  # an outage ends the command soon
    counts: dict[str, int] = yield bulk.count_by_user()
    return counts


def _end_user(user_id: str) -> Steps[int]:
    return (yield from signed_in.revoke(user_id, lambda found: True, "admin")).count


def _end_key(key: str) -> Steps[int]:
    """End the session of a cookie; if it is signed in, as one of its user's."""
    given = documents.document_id(key)
    assert given is not None
    document_id = (yield from loading.moved(given)) or given
    user_id = yield operations.find_user_id(document_id)
    if user_id is not None:
        ended = yield from signed_in.revoke(
            user_id, lambda found: found.document_id == document_id, "admin"
        )
        if ended.count:
            yield from adopting.delete_there(key)  # here the key is known
            return ended.count
    return int((yield from deleting.end(key)))


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
        with suppress(OverflowError):  # close to the first or the last date, in another time zone
            value = localtime(value)
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    return _escape(f"{value:,}" if isinstance(value, int) else str(value))


def _escape(text: Any) -> str:
    """Return a text that a terminal only shows: names and values may contain control characters."""
    shown = str(text)
    return shown if shown.isprintable() else repr(shown)
