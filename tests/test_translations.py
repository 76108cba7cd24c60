"""Each text that the page shows is translated, and what is compiled is what was translated."""

import ast
import re
from pathlib import Path

import polib
import pytest

import django_mongo_sessions

PACKAGE = Path(django_mongo_sessions.__file__).parent
CATALOGS = sorted(PACKAGE.glob("locale/*/LC_MESSAGES/django.po"))
LANGUAGES = [path.parts[-3] for path in CATALOGS]
# Django's functions, by which of their arguments is the context, and which the text.
FUNCTIONS = {
    "gettext": (None, 0),
    "gettext_lazy": (None, 0),
    "ngettext": (None, 0),
    "pgettext": (0, 1),
    "npgettext": (0, 1),
}
TAG = re.compile(r'{% translate "([^"]+)"(?: context "([^"]+)")? %}')
BLOCK = re.compile(r"{% blocktranslate trimmed .*?%}\s*(.*?)\s*{% endblocktranslate %}", re.DOTALL)
PLACEHOLDER = re.compile(r"%\(\w+\)\w")


def marked():
    """Yield the context and the text of each message that is marked for translation."""
    for path in PACKAGE.rglob("*.html"):
        html = path.read_text("utf-8")
        assert len(TAG.findall(html)) == html.count("{% translate ")
        assert len(BLOCK.findall(html)) == html.count("{% blocktranslate ")
        for text, context in TAG.findall(html):
            yield context or None, text
        for text in BLOCK.findall(html):
            yield None, re.sub(r"{{ (\w+) }}", r"%(\1)s", text)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
            if name in FUNCTIONS:
                context, text = FUNCTIONS[name]
                yield (
                    None if context is None else ast.literal_eval(node.args[context]),
                    ast.literal_eval(node.args[text]),
                )


@pytest.fixture(scope="module")
def messages():
    return set(marked())


@pytest.fixture(params=CATALOGS, ids=LANGUAGES)
def catalog(request):
    return polib.pofile(str(request.param))


def test_there_are_these_languages():
    assert LANGUAGES == ["ar", "de", "es", "fr", "ja"]


def test_a_catalog_has_each_message_and_no_other(catalog, messages):
    assert {(each.msgctxt, each.msgid) for each in catalog} == messages
    assert catalog.percent_translated() == 100
    assert not catalog.fuzzy_entries()


def test_each_placeholder_of_a_translation_is_one_of_the_message(catalog):
    plurals = int(re.search(r"nplurals=(\d)", catalog.metadata["Plural-Forms"])[1])
    for entry in catalog:
        known = set(PLACEHOLDER.findall(entry.msgid))
        if entry.msgid_plural:
            forms = list(entry.msgstr_plural.values())
            assert len(forms) == plurals
            assert all(set(PLACEHOLDER.findall(form)) <= known for form in forms)
        else:
            assert set(PLACEHOLDER.findall(entry.msgstr)) == known


def test_what_is_compiled_is_up_to_date(catalog):
    compiled = polib.mofile(catalog.fpath.replace(".po", ".mo"))

    def messages(entries):
        return {(each.msgctxt, each.msgid): (each.msgstr, each.msgstr_plural) for each in entries}

    assert messages(compiled) == messages(catalog)
