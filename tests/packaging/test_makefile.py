"""The targets of make: listed by make itself, and the only ones that the documentation names."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.search(r"^\.PHONY: (.+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
SHELL = re.compile(r"^```(?:bash|console|sh)\n.*?^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def make(*arguments):
    done = subprocess.run(["make", *arguments], cwd=ROOT, check=True, capture_output=True)
    return done.stdout.decode()


def test_make_alone_lists_every_target_with_a_description():
    lines = [line.split(maxsplit=2) for line in make().splitlines()]

    assert [(command, name) for command, name, _ in lines] == [("make", name) for name in TARGETS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_targets_that_exist(page):
    text = page.read_text()
    typed = "".join(SHELL.findall(text))

    named = re.findall(r"^(?:\$ )?make ([a-z-]+)", typed, re.MULTILINE)
    assert {*named, *re.findall(r"`make\s([a-z-]+)", text)} <= set(TARGETS)
    assert named or page.name != "README.md"


@pytest.mark.parametrize("target", ["demo", "test", "bench-quick", "chaos-quick", "soak", "fuzz"])
def test_a_target_passes_ARGS_on(target):
    assert re.search(r"-m .+ --more$", make("-n", target, "ARGS=--more"), re.MULTILINE)


def test_demo_async_is_demo_with_an_argument():
    assert make("-n", "demo-async") == make("-n", "demo", "ARGS=async")


def test_the_fuzzers_environment_has_its_own_interpreter():
    commands = make("-n", "-B", "fuzz", "PYTHON=one", "FUZZ_PYTHON=another")

    assert "another -m venv .venv-fuzz" in commands
    assert "--group fuzz" in commands
