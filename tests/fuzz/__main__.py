"""Fuzz, guided by coverage: `python -m tests.fuzz [target ...] [--seconds N]`.

Each target has a process of its own, one after another, and its share of the seconds. New inputs
are in `.cache/fuzz/<target>`; `--merge` adds the smallest set of them that covers as much to
`tests/fuzz/corpus/<target>`. An input that fails is stored beside the folder of new ones and named.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

TARGETS = ["cookies", "documents", "payloads", "encrypted"]
CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(".cache", "fuzz")

_INSTRUMENTED = ["django_mongo_sessions", "django.contrib.sessions", "django.http.cookie"]
# No input is longer; one that takes more seconds, or more memory, is a finding.
_LIMITS = ["-max_len=512", "-len_control=20", "-timeout=20", "-rss_limit_mb=1024"]
_MOST = 100  # files of a target's corpus
_UNNAMED = re.compile("[0-9a-f]{40}")
_TOLD = ("DONE", "stat::")  # what is shown of a run that found nothing wrong
_MISSING = """\
The fuzzer needs atheris, which this Python ({version}) does not have. `make fuzz` installs it;
there are wheels for CPython 3.11 to 3.14 on Linux. Without it, tests/fuzz/test_corpus.py runs the
corpus."""


def main(arguments: Sequence[str]) -> int:
    """Fuzz, and return the exit status of the first target that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="in total (default: 60)")
    parser.add_argument("--merge", action="store_true", help="bring the finds into the corpus")
    given = parser.parse_args(arguments)
    if unknown := {*given.targets} - {*TARGETS}:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {TARGETS}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        print(_MISSING.format(version=sys.version.partition(" ")[0]), file=sys.stderr)
        return 2
    targets = given.targets or TARGETS
    seconds = max(1, given.seconds // len(targets))
    statuses = [merge(target) if given.merge else fuzz(target, seconds) for target in targets]
    return next(filter(None, statuses), 0)


def fuzz(target: str, seconds: int) -> int:
    """Look for inputs that fail; new ones are written only to the first folder."""
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    (CORPUS / target).mkdir(parents=True, exist_ok=True)  # the sdist has none
    print(f"--- {target}: {seconds} s", flush=True)
    return _run(
        *(target, f"-max_total_time={seconds}", "-print_final_stats=1"),
        *(f"-artifact_prefix={FOUND}/{target}-", str(found), str(CORPUS / target)),
    )


def merge(target: str) -> int:
    """Build the corpus again: first what covers every edge, then what adds the most.

    A file that has been given a name stays.
    """
    with tempfile.TemporaryDirectory() as merged:
        folders = [merged, str(CORPUS / target), str(FOUND / target)]
        for counters in (0, 1):
            options = ["-set_cover_merge=1", f"-use_counters={counters}"]
            if status := _run(target, *options, *folders):
                return status
        best = sorted(Path(merged).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in (CORPUS / target).iterdir():
            if _UNNAMED.fullmatch(path.name):
                path.unlink()
        for path in best[:_MOST]:
            shutil.copy(path, CORPUS / target)
    return 0


def _run(target: str, *arguments: str) -> int:
    """Run the fuzzer, with its output in a log, and show what matters."""
    command = [sys.executable, "-m", "tests.fuzz", "--", target, *_LIMITS, *arguments]
    log = FOUND / f"{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    lines = log.read_text(errors="replace").splitlines()
    for line in lines[-40:] if status else lines:
        if status or any(told in line for told in _TOLD):
            print(line)
    print(f"The log is {log}.", flush=True)
    return status


def fuzz_here(target: str, arguments: Sequence[str]) -> None:
    """Fuzz in this process. It ends with the run."""
    import atheris

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        import django

        django.setup()
        check = import_module(f"tests.fuzz.{target}").check
    from tests.fuzz.guards import prepared

    # libFuzzer's merge calls this as a shell does, again and again.
    program = shlex.join([sys.executable, "-m", "tests.fuzz", "--", target])
    atheris.Setup([program, *arguments], check)
    with prepared():
        atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1:]))
