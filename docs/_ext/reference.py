"""The reference of the Python API: how it differs from what autodoc makes by itself."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from django_mongo_sessions.conf import KEYS

PACKAGE = "django_mongo_sessions"
# The class that a site makes objects of. Those of the others are made for it.
CONSTRUCTED = f"{PACKAGE}.backends.mongodb.SessionStore"
# Where a name is public, by the private place where it is defined.
PUBLIC = {f"{PACKAGE}.engine.signed_in.UserSession": f"{PACKAGE}.users.UserSession"}
_SETTING = re.compile(rf"`?\b({'|'.join(sorted(KEYS, key=len, reverse=True))})\b`?")


def link_settings(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: Any) -> None:
    """Let each key of MONGO_SESSIONS in a docstring lead to its section."""
    for number, line in enumerate(lines):
        lines[number] = _SETTING.sub(_link, line)


def _link(found: re.Match[str]) -> str:
    return f":ref:`{found[1]} <setting-{found[1].lower().replace('_', '-')}>`"


def hide_constructor(app: Sphinx, what: str, name: str, *_: Any) -> tuple[str, None] | None:
    """Leave out what a class takes if no site makes objects of it."""
    return ("", None) if what in ("class", "exception") and name != CONSTRUCTED else None


def show_public_bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    """Show the bases of a private base in its place, and those of other packages with their path.

    The names of some are those of the classes that derive from them.
    """
    shown: list[Any] = []
    for base in bases:
        is_private = base.__module__.startswith(f"{PACKAGE}.engine.")
        shown += base.__bases__ if is_private else [base]
    bases[:] = [
        base if base.__module__.startswith(PACKAGE) else f"{base.__module__}.{base.__qualname__}"
        for base in shown
    ]


def join_twins(app: Sphinx, tree: nodes.document) -> None:
    """Put what is to be awaited beside its blocking form, where its text is "See …()."."""
    for twin in list(tree.findall(addnodes.desc)):
        *signatures, content = twin.children
        seen = re.fullmatch(r"See (\w+)\(\)\.", content.astext().strip())
        before = seen and _before(twin)
        if before and before[0].get("fullname", "").rpartition(".")[2] == seen[1]:
            for signature in signatures:
                signature["_toc_name"] = ""  # once is enough
            before.insert(-1, signatures)
            twin.parent.remove(twin)


def _before(node: addnodes.desc) -> addnodes.desc | None:
    """Return the description before this one. Entries of the index stand between the two."""
    siblings = node.parent.children[: node.parent.index(node)]
    return next((each for each in reversed(siblings) if isinstance(each, addnodes.desc)), None)


def link_public(app: Sphinx, env: Any, node: nodes.Element, text: nodes.Element) -> Any:
    """Let a type that is defined in a private module lead to its public name."""
    target = PUBLIC.get(node.get("reftarget", ""))
    if target is None:
        return None
    domain = env.domains["py"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "class", target, node, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is done to autodoc's output."""
    app.connect("autodoc-process-docstring", link_settings)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("doctree-read", join_twins, priority=400)  # before the page's contents are made
    app.connect("missing-reference", link_public)
    return {"parallel_read_safe": True}
