"""Sections whose facts come from the code: `{finding}` and `{setting}`.

The text stands in checks.md and settings.md. An id or a key without a section, and a section
without an id or a key, is a warning, and so fails the build. Each has an entry in the index, and so
has each subcommand in command.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import Formatter
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from django_mongo_sessions.checks.messages import MESSAGES
from django_mongo_sessions.conf import KEYS

logger = logging.getLogger(__name__)

# By directive: the page that has all of them, what each is, and where the code lists them.
PAGES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "finding": ("checks", "id", MESSAGES, "django_mongo_sessions.checks.messages.MESSAGES"),
    "setting": ("settings", "key", KEYS, "django_mongo_sessions.conf.KEYS"),
}


class FromCode(SphinxDirective):
    """A section about one entry of a list in the code."""

    required_arguments = 1
    has_content = True
    entry: str  # what it is, for the index

    def run(self) -> list[nodes.Node]:
        """Return the section: title, facts, and the text that stands in the page."""
        name = self.arguments[0]
        _, kind, known, where = PAGES[self.name]
        if name not in known:
            raise self.error(f"{where} has no {kind} {name!r}: remove this section, or rename it.")
        if not "".join(self.content).strip():
            raise self.error(f"The {kind} {name!r} needs a sentence or two.")
        target = f"{self.name}-{name}".lower().replace("_", "-")
        self.env.domains["std"].note_hyperlink_target(  # for links such as (#setting-uri)
            target, self.env.docname, target, self.title(name)
        )
        section = nodes.section(ids=[target], names=[target])
        section += nodes.title("", "", nodes.literal("", self.title(name)))
        section += _index(f"{self.title(name)} ({self.entry})", target)
        section += self.facts(known[name])
        body = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, body)
        section += body.children
        return [section]

    def title(self, name: str) -> str:
        return name

    def facts(self, entry: Any) -> list[nodes.Node]:
        raise NotImplementedError


class Finding(FromCode):
    """What a check may say."""

    entry = "check"

    def title(self, name: str) -> str:
        return f"mongo_sessions.{name}"

    def facts(self, entry: Any) -> list[nodes.Node]:
        return [_lines({"Message": _template(entry.message), "Hint": _template(entry.hint)})]


class Setting(FromCode):
    """A key of `MONGO_SESSIONS`."""

    entry = "setting"

    def facts(self, entry: Any) -> list[nodes.Node]:
        default = nodes.literal("", _python(entry.default))
        return [_lines({"Accepts": [nodes.Text(entry.accepts)], "Default": [default]})]


def _lines(facts: dict[str, list[nodes.Node]]) -> nodes.Node:
    """Return facts with their names, a line each."""
    block = nodes.line_block(classes=["facts"])
    for name, parts in facts.items():
        block += nodes.line("", "", nodes.strong("", f"{name}:"), nodes.Text(" "), *parts)
    return block


def _index(entry: str, target: str) -> addnodes.index:
    return addnodes.index(entries=[("single", entry, target, "", None)])


class IndexSubcommands(SphinxTransform):
    """Add the sections of command.md whose title is a command to the index."""

    default_priority = 800  # before the index is made

    def apply(self, **kwargs: Any) -> None:
        if self.env.current_document.docname != "command":
            return
        for section in self.document.findall(nodes.section):
            [title, *_] = section.children
            if isinstance(title[0], nodes.literal):
                name = title.astext()
                entry = f"{name} (command)" if name == "clearsessions" else f"mongosessions; {name}"
                section.insert(1, _index(entry, section["ids"][0]))


def _template(text: str) -> list[nodes.Node]:
    """Return a message with the names of what it is filled with in italics."""
    parts: list[nodes.Node] = []
    for literal, field, _, _ in Formatter().parse(text):
        parts.append(nodes.Text(literal))
        if field:
            parts.append(nodes.emphasis("", f"<{field}>"))
    return parts


def _python(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def check(app: Sphinx, env: Any) -> None:
    """Compare the sections that the pages have with the lists in the code."""
    for directive, (page, kind, known, where) in PAGES.items():
        path = Path(env.doc2path(page))
        written = re.findall(rf"^:::+{{{directive}}} *(\S+)$", path.read_text("utf-8"), re.M)
        for name in _missing(known, written):
            logger.warning(
                "docs/%s.md has no section for the %s %s of %s. Add one: :::{%s} %s",
                *(page, kind, name, where, directive, name),
                location=page,
            )
        for name, times in Counter(written).items():
            if times > 1:
                logger.warning("docs/%s.md has %d sections %s.", page, times, name, location=page)


def _missing(known: Iterable[str], written: Iterable[str]) -> list[str]:
    return [name for name in known if name not in set(written)]


def rebuild(app: Sphinx, env: Any, added: set[str], *_: Any) -> list[str]:
    """Read the pages again: the lists in the code may have changed since."""
    return [page for page, *_ in PAGES.values()]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and the comparison."""
    app.add_directive("finding", Finding)
    app.add_directive("setting", Setting)
    app.connect("env-get-outdated", rebuild)
    app.connect("env-check-consistency", check)
    app.add_transform(IndexSubcommands)
    return {"parallel_read_safe": True}
