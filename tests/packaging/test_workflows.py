"""The workflow runs all that tox.ini has, on the Pythons that the package promises."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / ".github").exists():
    pytest.skip("The sdist does not have the workflows.", allow_module_level=True)

TOX = (ROOT / "tox.ini").read_text()
JOBS = yaml.safe_load((ROOT / ".github/workflows/main.yml").read_text())["jobs"]


def test_the_matrix_has_every_python_of_tox_and_of_the_metadata():
    minors = re.findall(r"^ +py3(\d+)-", TOX, re.MULTILINE)
    promised = re.findall(r'"[\w ]+ :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())

    pythons = set(JOBS["tests"]["strategy"]["matrix"]["python"])
    assert pythons == {f"3.{minor}" for minor in minors}
    assert pythons == set(promised)


def test_the_other_environments_find_the_pythons_that_they_name():
    steps = [step.get("with", {}) for step in JOBS["checks"]["steps"]]

    [pythons] = [step["python-version"].split() for step in steps if "python-version" in step]
    assert set(re.findall(r"\bpython(3\.\d+)", TOX)) <= set(pythons)
