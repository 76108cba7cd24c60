"""Every block of code in the documentation is what it says: compiled, parsed, or checked."""

import re
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs import languages

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def tokens(path):
    """Yield what the Markdown of a page consists of, also within a line."""
    for token in MarkdownIt("commonmark").parse(path.read_text()):
        yield token
        yield from token.children or ()


def read(path):
    """Yield the language, the text and the line of each block; what Sphinx makes is none."""
    for token in tokens(path):
        if token.type in ("fence", "code_block") and not re.match(r"\{(?!code)", token.info):
            yield token.info.strip(), token.content, token.map[0] + 1


BLOCKS = {
    f"{path.relative_to(ROOT)}:{line}": (language, text)
    for path in PAGES
    for language, text, line in read(path)
}
RECIPES = {
    str(path.relative_to(ROOT)): ("python", path.read_text())
    for path in sorted((ROOT / "docs" / "recipes").glob("*.py"))
}
MODULES = languages.modules_in([text for language, text in BLOCKS.values() if language == "python"])


@pytest.fixture(autouse=True)
def site(monkeypatch):
    """What the settings in the pages need: the modules that they show, and an environment."""
    for name, module in MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
    for _, text in BLOCKS.values():
        for name in re.findall(r'environ\["(\w+)"\]', text):  # it may be a key that encrypts
            monkeypatch.setenv(name, sha256(name.encode()).hexdigest())


def check(language, text):
    assert language in languages.CHECKS, f"{language or 'no language'}: see tests/docs/languages.py"
    languages.CHECKS[language](text)


def name(text):
    """Raise if a text in backticks names something that there is not."""
    languages.exists(text.removesuffix("()"))
    languages.mentioned(text)


@pytest.mark.parametrize("where", [*BLOCKS, *RECIPES])
def test_a_block_is_what_it_says(where):
    check(*{**BLOCKS, **RECIPES}[where])


def test_the_text_names_what_there_is():
    for path in PAGES:
        for token in tokens(path):
            if token.type == "code_inline":
                try:
                    name(token.content)
                except (AssertionError, ImportError) as error:
                    pytest.fail(f"{path.relative_to(ROOT)}: {error}")


WRONG = [
    ("", "x = 1", "no language"),
    ("klingon", "x = 1", "klingon"),
    ("python", "x = (", "never closed|unexpected EOF"),
    ("python", "from django_mongo_sessions.users import sessions_of", "sessions_of"),
    ("python", "import django_mongo_sessions.user", "user"),
    ("python", "from django_mongo_sessions import users\nusers.list_all()", "list_all"),
    ("python", 'INSTALLED_APPS += ["django_mongodb_sessions"]', "django_mongodb_sessions"),
    ("python", 'SESSION_ENGINE = "django_mongo_sessions.backends"', "mongo_sessions.E021"),
    ("python", 'SESSION_ENGINE = "mysite.session"', "mongo_sessions.E021"),
    ("{code-block} python", "x = 1", "code-block"),
    ("python", 'MIDDLEWARE = ["django_mongo_sessions.middleware.Sessions"]', "Sessions"),
    ("python", 'SILENCED_SYSTEM_CHECKS = ["mongo_sessions.W999"]', "no check .*W999"),
    ("python", 'MONGO_SESSIONS = {"URL": "mongodb://localhost"}', "Did you mean 'URI'"),
    ("python", 'MONGO_SESSIONS = {"ON_CONFLICT": "error"}', "ON_CONFLICT"),
    ("python", 'MONGO_SESSIONS = {"URI": "mongodb://localhost:port"}', "mongo_sessions.E004"),
    ("python", 'MONGO_SESSIONS = {"CLIENT": "mysite.mongo.no_client"}', "no_client"),
    ("python", 'MONGO_SESSIONS = {..., "ON_CONFLICT": "raise"}', "invalid syntax|expected"),
    ("python", 'def test(settings):\n    settings.MONGO_SESSIONS = {"TIMEOUT": "2"}', "TIMEOUT"),
    ("python", '@override_settings(MONGO_SESSIONS={"URL": ""})\ndef test(): ...', "'URI'"),
    ("python", 'def test(uri):\n    settings.MONGO_SESSIONS = {"URL": uri}', "URL"),
    ("python", 'if True:\n    MONGO_SESSIONS = {"TIMEOUT": 0}', "TIMEOUT"),
    ("python", 'MONGO_SESSIONS = {"TIMEOUT": SECONDS}', "SECONDS"),
    ("python", 'import nothing\nMONGO_SESSIONS = {"TIMEOUTS": nothing.x}', "TIMEOUTS"),
    ("python", 'MONGO_SESSIONS = {}\nMONGO_SESSIONS["TIMEOUT"] = 0', "TIMEOUT"),
    ("console", "python manage.py migrate", "no prompt"),
    ("console", "$ echo 'a", "looking for matching"),
    ("console", "$ python manage.py mongosessions statuses", "invalid choice"),
    ("console", "$ python manage.py mongosessions status --jsn", "--jsn"),
    ("console", "$ MONGODB_URI=x python manage.py check --deply", "--deply"),
    ("bash", "if true", "unexpected end"),
    ("html+django", "{% load mongo_session %}", "mongo_session"),
    ("html+django", "{% if a %}", "Unclosed"),
    ("html+django", '{% extends "django_mongo_sessions/base.html" %}', "base.html"),
    (
        "html+django",
        '{% extends "django_mongo_sessions/base_sessions.html" %}{% block foot %}{% endblock %}',
        "no block foot",
    ),
    ("html+django", "{% load static %}{% static 'django_mongo_sessions/a.css' %}", "no file"),
    ("css", ".mongo-sessions { --ms-colour: red; }", "--ms-colour"),
    ("css", ".mongo-sessions { --ms-accent: red;", "MISSING"),
    ("javascript", "db.createRole({ role: )", "ERROR"),
    ("json", "{'a': 1}", "double quotes"),
    ("yaml", "a: [1", "expected"),
    ("ini", "a", "no section"),
]


@pytest.mark.parametrize(("language", "text", "reason"), WRONG)
def test_a_wrong_block_is_noticed(language, text, reason):
    with pytest.raises(Exception, match=reason):
        check(language, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("django_mongo_sessions.testing.rest()", "rest"),
        ("mongo_sessions.E999", "no check"),
        ("manage.py mongosessions statuses", "no statuses"),
        ("mongosessions import --takes", "no --takes"),
    ],
)
def test_a_wrong_name_in_the_text_is_noticed(text, reason):
    with pytest.raises((AssertionError, ImportError), match=reason):
        name(text)
