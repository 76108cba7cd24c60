"""What is published: a wheel and a source distribution, built here as a release builds them."""

import re
import shutil
import subprocess
import sys
import tarfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from django_mongo_sessions import __version__

ROOT = Path(__file__).resolve().parents[2]
DIST_INFO = f"django_mongodb_sessions-{__version__}.dist-info"
# What the sdist is made of.
FOLDERS = ["benchmarks", "django_mongo_sessions", "docs", "testproject", "tests"]
FILES = [
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("Makefile", "manage.py", "pyproject.toml", "tox.ini"),
]
# Results of measurements, and the fuzzer's corpus.
LEFT_OUT = ("benchmarks/results.json", "tests/chaos/soak.json", "tests/fuzz/corpus/")


class Wheel(NamedTuple):
    path: Path
    names: list[str]
    metadata: Message


class Sdist(NamedTuple):
    path: Path
    names: list[str]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution."""
    path = build(tmp_path_factory.mktemp("sdist"), "--sdist", ROOT)
    with tarfile.open(path) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    return Sdist(path, [name.partition("/")[2] for name in members])


@pytest.fixture(scope="module")
def source(sdist, tmp_path_factory):
    """The folder that the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist.path) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return source


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel."""
    return read_wheel(build(tmp_path_factory.mktemp("wheel"), "--wheel", ROOT))


def build(folder, kind, source):
    run("-m", "build", kind, "--outdir", folder, source, cwd=folder)
    [path] = folder.iterdir()
    return path


def run(*arguments, **options):
    return subprocess.run([sys.executable, *map(str, arguments)], check=True, **options)


def read_wheel(path):
    with ZipFile(path) as archive:
        metadata = archive.read(f"{DIST_INFO}/METADATA").decode()
        return Wheel(path, sorted(archive.namelist()), message_from_string(metadata))


def tree(*folders):
    """Return the names of all files below folders of the checkout."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(ROOT).as_posix() for path in paths if path.parent.name != "__pycache__"
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    about = ["METADATA", "RECORD", "WHEEL", "licenses/LICENSE"]

    assert set(wheel.names) == tree("django_mongo_sessions") | {f"{DIST_INFO}/{x}" for x in about}


def test_the_sdist_holds_what_the_package_is_built_documented_and_tested_with(sdist):
    sources = {name for name in tree(*FOLDERS) if not name.startswith((*LEFT_OUT, "docs/_build/"))}

    # hatchling adds the last two.
    assert set(sdist.names) == {*FILES, *sources, ".gitignore", "PKG-INFO"}


def test_the_sdist_holds_no_corpus_no_results_and_no_logs(sdist):
    assert not [name for name in sdist.names if name.startswith(LEFT_OUT)]
    data = [name for name in sdist.names if name.endswith((".json", ".log"))]
    assert [name for name in data if not name.startswith("tests/vectors/")] == [
        "benchmarks/expected.json"
    ]


def test_the_tests_of_the_sdist_are_collected_and_only_those_of_the_corpus_skipped(source):
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-k",
        "the_corpus_does_no_harm",
    ]
    done = subprocess.run([*tests, "-rs"], cwd=source, stdout=subprocess.PIPE, text=True)

    assert "The sdist does not have the corpus." in done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.search(r"\b4 skipped, \d+ deselected", last), done.stdout  # one for each target


def test_the_wheel_has_the_same_bytes_when_built_from_the_sdist(source, wheel, tmp_path):
    again = build(tmp_path, "--wheel", source)

    assert again.read_bytes() == wheel.path.read_bytes()


def test_the_sdist_has_the_same_bytes_when_built_again(sdist, tmp_path):
    again = build(tmp_path, "--sdist", ROOT)

    assert again.read_bytes() == sdist.path.read_bytes()


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]

    assert re.fullmatch(rf"{re.escape(__version__)} - \d{{4}}-\d\d-\d\d", released[0])


def test_the_package_index_accepts_the_description(sdist, wheel):
    run("-m", "twine", "check", "--strict", sdist.path, wheel.path)


def test_it_needs_only_django_and_pymongo(wheel):
    required = [name for name in wheel.metadata.get_all("Requires-Dist") if "extra ==" not in name]

    assert [re.split("[<>=]", name)[0] for name in required] == ["django", "pymongo"]


def test_the_metadata_describes_the_package(wheel):
    assert wheel.metadata["Name"] == "django-mongodb-sessions"
    assert wheel.metadata["Version"] == __version__
    assert wheel.metadata["Requires-Python"] == ">=3.10"
    assert wheel.metadata["License-Expression"] == "BSD-3-Clause"
    assert "Typing :: Typed" in wheel.metadata.get_all("Classifier")
    assert wheel.metadata["Description-Content-Type"] == "text/markdown"


def test_the_description_is_the_readme_and_all_of_its_links_work_on_a_package_index(wheel):
    """Of a link to a file of the repository, only the text is there, and of a picture nothing."""
    readme, description = (ROOT / "README.md").read_text(), wheel.metadata.get_payload()
    links = re.findall(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)", readme)
    left_out = readme.count("![") - description.count("![")

    assert "](" in readme.replace("](http", "")
    assert "](" not in description.replace("](http", "")
    assert all(text in description for text, _ in links)
    assert len(readme.split("\n\n")) == len(description.split("\n\n")) + left_out


def test_with_the_address_of_the_repository_links_and_pictures_lead_there(source, tmp_path):
    """As the comment in pyproject.toml says."""
    # Otherwise, the description would be the one that PKG-INFO has.
    shutil.copytree(source, tmp_path / "source", ignore=shutil.ignore_patterns("PKG-INFO"))
    (tmp_path / "dist").mkdir()
    settings = tmp_path / "source" / "pyproject.toml"
    text = settings.read_text()
    urls = re.findall(r"^#     (.+)", text, re.MULTILINE)
    if not urls:
        pytest.skip("The address is written.")
    picture, link = re.findall(r"'!?\[\\1\]\(ADDRESS.+?'", text)
    text = text.replace('replacement = ""', f"replacement = {picture}")
    text = text.replace(r"replacement = '\1'", f"replacement = {link}")
    text = "\n".join([text, *urls, ""]).replace("ADDRESS", "https://example.org")
    settings.write_text(text)

    metadata = read_wheel(build(tmp_path / "dist", "--wheel", settings.parent)).metadata

    assert "Source, https://example.org" in metadata.get_all("Project-URL")
    addresses = rf"https://example\.org/(blob|raw)/{re.escape(__version__)}/"
    readme = (ROOT / "README.md").read_text()
    assert re.sub(addresses, "", metadata.get_payload()) == readme


def test_mypy_in_a_project_sees_the_types(tmp_path):
    """Check against the installed package, without Django's stubs."""
    (tmp_path / "user.py").write_text(
        "from django_mongo_sessions.backends.mongodb import SessionStore\n"
        "number: int = SessionStore().load()\n"
    )

    mypy = [sys.executable, "-m", "mypy", "--strict", "user.py"]
    done = subprocess.run(mypy, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    first, last = done.stdout.splitlines()
    assert first.startswith("user.py:2: error: ")
    assert first.endswith("[assignment]")
    assert last.startswith("Found 1 error ")
