"""Django's own tests of sessions, from the source distribution of the Django in use."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import django
from django.test import modify_settings

_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "django"


def sessions_tests() -> ModuleType:
    """Return Django's `sessions_tests.tests`, fetched as a package by pip if it is not here yet."""
    sys.path.append(str(_fetched() / "tests"))
    # Its models belong to an app, which has to be installed while they are imported.
    with modify_settings(INSTALLED_APPS={"append": ["sessions_tests"]}):
        return import_module("sessions_tests.tests")


def _fetched() -> Path:
    version = django.get_version()
    source = _CACHE / f"django-{version}"
    if not source.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        # All workers of xdist come at once, and none may import what another has half unpacked.
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
            subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                    *("--no-binary", "django", "--dest", folder, f"django=={version}"),
                ],
                check=True,
                timeout=300,
            )
            unpacked = Path(folder, source.name)
            with tarfile.open(Path(folder, f"{source.name}.tar.gz")) as archive:
                for member in archive.getmembers():
                    if member.isfile() and "/tests/sessions_tests/" in member.name:
                        file = Path(folder, member.name)
                        file.parent.mkdir(parents=True, exist_ok=True)
                        content = archive.extractfile(member)
                        assert content is not None
                        file.write_bytes(content.read())
            try:
                unpacked.rename(source)
            except OSError:  # another worker was faster
                if not source.exists():
                    raise
    return source
