"""Processes that fork from one that has used a session, and threads that share a client."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos import replicas
from tests.chaos.browsers import Browser
from tests.chaos.sites import environment, serving
from tests.chaos.table import Row

_BROWSERS, _VISITS = 8, 40
_PRELOADED = "tests.chaos.preloaded:application"
_SERVERS = {
    "gunicorn --preload": [
        *("-m", "gunicorn", "--bind=127.0.0.1:{port}", "--preload"),
        *("--workers=4", "--threads=4", _PRELOADED),
    ],
    "uWSGI": [
        *(
            str(Path(sys.executable).with_name("pyuwsgi")),
            "--http-socket=127.0.0.1:{port}",
            "--master",
            "--die-on-term",
        ),
        *("--processes=4", "--threads=4", "--enable-threads", f"--module={_PRELOADED}"),
    ],
}
# Those of forking.py.
_WAYS = ["os.fork under load", "multiprocessing, fork", "multiprocessing, spawn", "64 threads"]
_UNWANTED = re.compile(r"Warning: |Traceback|fork-safe")
# Python warns of each fork of a process that has threads. That concerns the servers.
_FROM_OTHERS = re.compile(
    r"This process .* is multi-threaded|you are running uWSGI|superuser privileges"
)


def run(quick: bool) -> Iterator[Row]:
    """Fork, and yield a row for each way."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with replicas.standalone(folder) as server:
            for way, options in _SERVERS.items():
                yield _served(folder, server.uri, way, options)
            for way in _WAYS:
                yield _in_processes(server.uri, way)
            yield _in_tasks(folder, server.uri)


def _served(folder: Path, uri: str, way: str, options: list[str]) -> Row:
    with serving(folder, uri, options) as site:

        def visit(number: int) -> list[dict[str, Any]]:
            browser = Browser(site.port)
            assert browser.get(f"basket/{number}/").is_acknowledged
            responses = [browser.get("whose/").json() for _ in range(_VISITS)]
            return [{**response, "wrong": response["basket"] != number} for response in responses]

        with ThreadPoolExecutor(_BROWSERS) as pool:
            reports = [response for some in pool.map(visit, range(_BROWSERS)) for response in some]
    return _row(way, reports, site.log.read_text())


def _in_processes(uri: str, way: str) -> Row:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.forking", way],
        env=environment(uri),
        capture_output=True,
        text=True,
        timeout=120,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return _row(way, reports, done.stderr, failed=done.returncode != 0)


def _in_tasks(folder: Path, uri: str) -> Row:
    """Use sessions in Celery's workers, with files as a broker."""
    for name in ("queue", "results"):
        (folder / name).mkdir()
    env = {**environment(uri), "CELERY_FOLDER": str(folder)}
    log = folder / "celery.log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "--app=tests.chaos.tasks", "--quiet", "worker"),
                *("--pool=prefork", "--concurrency=4", "--loglevel=WARNING"),
            ],
            env=env,
            stdout=output,
            stderr=output,
        )
    try:
        ask = "import json, tests.chaos.tasks as t; sent = [t.work.delay(n) for n in range(24)]; "
        ask += "print(json.dumps([one.get(timeout=60) for one in sent]))"
        done = subprocess.run(
            [sys.executable, "-c", ask], env=env, capture_output=True, text=True, timeout=120
        )
    finally:
        worker.terminate()
        worker.wait(60)
    reports = json.loads(done.stdout) if done.returncode == 0 else []
    return _row("Celery, prefork", reports, log.read_text() + done.stderr, failed=not reports)


def _row(way: str, reports: Iterable[Mapping[str, Any]], log: str, failed: bool = False) -> Row:
    reports = list(reports)
    wrong = sum(one["wrong"] for one in reports)
    by: dict[int, set[int]] = {}
    for one in reports:
        by.setdefault(one["process"], set()).update(one["by"])
    shared = sum(len(used) for used in by.values()) - len(set().union(*by.values()))
    inherited = sum(len({*one["by"]} & {*one["inherited"]}) for one in reports)
    logged = [
        line
        for line in log.splitlines()
        if _UNWANTED.search(line) and not _FROM_OTHERS.search(line)
    ]
    broken = [
        *(["it failed: " + " ".join(log.splitlines()[-1:])] if failed else []),
        *([f"{wrong} requests got another user's session"] if wrong else []),
        *([f"{shared + inherited} connections were shared"] if shared or inherited else []),
        *([f"it logged: {logged[0]}"] if logged else []),
    ]
    name = f"{way}: {len(by)} process{'es' if len(by) != 1 else ''}"
    return Row(name, "one mongod", len(reports), lost=wrong, broken=tuple(broken))
