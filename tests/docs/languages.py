"""What is in a block of the documentation, and how it is checked, by language.

`CHECKS` has a function for each language. It takes the text of a block, and raises if it is wrong.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import tree_sitter
import tree_sitter_css
import tree_sitter_javascript
import yaml
from django.contrib.staticfiles import finders
from django.core.checks import ERROR, CheckMessage
from django.core.management import get_commands, load_command_class
from django.template import engines
from django.template.loader import get_template
from django.template.loader_tags import BlockNode, ExtendsNode
from django.test import override_settings
from django.utils.module_loading import import_string

from django_mongo_sessions.checks import settings as checks
from django_mongo_sessions.checks.messages import MESSAGES
from django_mongo_sessions.conf import KEYS

PACKAGE = "django_mongo_sessions"
SETTING = "MONGO_SESSIONS"
# Ours, and Django's for sessions and checks.
SETTINGS = rf"{SETTING}|(SESSION|SECRET|SILENCED)_[A-Z_]+"
LOGGERS = {PACKAGE, f"{PACKAGE}.predecessor"}
# Packages of others whose names begin like ours.
ALIKE = {"django_mongodb_backend", "django_mongoengine"}
# Functions of packages that settings name, and that need not be installed.
OF_OTHERS = {"axes.helpers": ["get_client_ip_address"]}
# What is wrong with settings if a package is not installed.
NEEDS = {"mongo_sessions.E019": "django_mongodb_backend"}


# Python


def python(text: str) -> None:
    """Compile it, find every name of the package, and let the checks judge its settings."""
    tree = compile(text, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ours = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                ours[alias.asname or alias.name] = found(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                exists(alias.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            exists(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := ast.unparse(node.value)) in ours:
            getattr(ours[name], node.attr)
    for given in settings_of(tree):
        judge(given)


def exists(name: str) -> None:
    """Raise if text is a dotted path of the package, or the id of a check, and there is none."""
    if re.fullmatch(r"mongo_sessions\.[EW]\d+", name):
        assert name.partition(".")[2] in MESSAGES, f"there is no check {name}"
    elif re.fullmatch(rf"{PACKAGE}(\.\w+)*", name) and name not in LOGGERS:
        found(name)
    elif re.fullmatch(r"django_mongo\w*(\.\w+)*", name) and name not in LOGGERS:
        assert name.partition(".")[0] in ALIKE, f"there is no {name}"


def found(name: str) -> object:
    """Return a module of the package, or what is in it, by its dotted path."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return import_string(name)


def settings_of(tree: ast.Module) -> Iterator[dict[str, object]]:
    """Yield what a block sets: as a settings module, and beside it, as in a test.

    Of the rest, only the imports that these values need are run.
    """
    imported, missing = imports(tree)
    module: dict[str, object] = {}
    for node in tree.body:
        name = target(node)
        if isinstance(node, ast.Assign) and re.fullmatch(SETTINGS, name):
            module[name] = evaluated(node.value, imported, missing)
        elif key := re.fullmatch(rf"{SETTING}\['(\w+)'\]", name):
            value = eval(ast.unparse(node.value), imported)
            module[SETTING] = {**module.get(SETTING, {}), key[1]: value}
    yield module
    for node in ast.walk(tree):
        is_keyword = isinstance(node, ast.keyword) and node.arg == SETTING
        is_other = node not in tree.body or target(node) != SETTING
        if is_keyword or (is_other and target(node).rpartition(".")[2] == SETTING):
            yield {SETTING: evaluated(node.value, imported, None)}


def target(node: ast.AST) -> str:
    """Return what a statement assigns to; an empty text if it does not."""
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""


def imports(tree: ast.Module) -> tuple[dict[str, object], set[str]]:
    """Return what a settings module imports, and the names of what is not installed."""
    namespace: dict[str, object] = {}
    missing: set[str] = set()
    if any(target(node).startswith(SETTING) for node in tree.body):
        for node in tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                try:
                    exec(ast.unparse(node), namespace)
                except ImportError:
                    missing.update(alias.asname or alias.name for alias in node.names)
    return namespace, missing


def evaluated(node: ast.expr, namespace: dict[str, object], missing: set[str] | None) -> object:
    """Return a value; of a dict, without the items that need missing names. None: any may miss."""
    if not isinstance(node, ast.Dict):
        return eval(ast.unparse(node), namespace)
    found = {}
    for key, value in zip(node.keys, node.values, strict=True):
        name = None if key is None else ast.literal_eval(key)
        try:
            found[name] = eval(ast.unparse(value), namespace)
        except NameError as error:
            if missing is not None and error.name not in missing:
                raise
            assert name is None or name in KEYS, f"{name} is not a known key"
    found.pop(None, None)  # of another dict
    return found


def judge(given: dict[str, object]) -> None:
    """Raise if the package's own checks find an error in these settings."""
    if not given:
        return
    with override_settings(**given):
        reported = [
            *checks.check_settings(),
            *checks.check_engine(),
            *checks.check_serializer(),
            *checks.check_keys(),
        ]
    wrong = [each for each in reported if each.level >= ERROR and not is_of_the_host(each)]
    assert not wrong, "\n".join(map(str, wrong))


def is_of_the_host(reported: CheckMessage) -> bool:
    """Return whether this is reported only because a package or a file is not on this machine."""
    package = NEEDS.get(reported.id)
    is_missing = package is not None and find_spec(package) is None
    return is_missing or "No such file or directory: '/etc/ssl/" in reported.msg


def modules_in(blocks: list[str]) -> dict[str, ModuleType]:
    """Return the modules that blocks show, such as `# mysite/mongo.py`, with what they define.

    They are not run, since they may import what is not installed.
    """
    functions = {name: set(names) for name, names in OF_OTHERS.items()}
    for text in blocks:
        if shown := re.match(r"# (\w+/[\w/]+)\.py\b", text):
            kinds = (ast.ClassDef, ast.FunctionDef)
            defined = [each for each in ast.parse(text).body if isinstance(each, kinds)]
            names = functions.setdefault(shown[1].replace("/", "."), set())
            names.update(each.name for each in defined)
    modules = {name.partition(".")[0]: ModuleType(name.partition(".")[0]) for name in functions}
    for name, names in functions.items():
        modules[name] = ModuleType(name)
        for each in names:
            setattr(modules[name], each, lambda *args: None)
    return modules


# What is typed in a shell


def console(text: str) -> None:
    """Check what follows the prompts, `$`, as in a script; the rest is what was printed."""
    lines = re.findall(r"^\$ (.*(?:\\\n.*)*)", text, re.MULTILINE)
    assert lines, "there is no prompt, which is `$ `"
    bash("\n".join(lines))


def bash(text: str) -> None:
    """Let bash parse it, and Django's commands parse their arguments."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    for line in text.replace("\\\n", " ").splitlines():
        if "manage.py " in line.partition("#")[0]:
            words = shlex.split(line, comments=True)
            manage(words[words.index("manage.py") + 1 :])


def manage(words: list[str]) -> None:
    """Raise CommandError if a command does not take these arguments."""
    end = next((at for at, word in enumerate(words) if re.fullmatch(r"[|&;<>]+", word)), None)
    name, *arguments = words[:end]
    _parser(name).parse_args(arguments)


def mentioned(text: str) -> None:
    """Raise if the text names a part of `mongosessions` that there is not. It may be incomplete."""
    found = re.match(r"(?:python )?(?:manage\.py )?mongosessions (\w+)(.*)", text)
    if found is None:
        return
    [subcommands] = [
        action.choices
        for action in _parser("mongosessions")._actions
        if action.dest == "subcommand"
    ]
    assert found[1] in subcommands, f"mongosessions has no {found[1]}"
    for option in re.findall(r"--[\w-]+", found[2]):
        assert option in subcommands[found[1]]._option_string_actions, f"{found[1]} has no {option}"


def _parser(name: str) -> ArgumentParser:
    return load_command_class(get_commands()[name], name).create_parser("manage.py", name)


# Templates and what goes with them


def html(text: str) -> None:
    """Compile it, and find what it extends and overrides of Django's and of ours."""
    nodes = engines["django"].from_string(text).template.nodelist
    for node in nodes.get_nodes_by_type(ExtendsNode):
        parent = node.parent_name.resolve({})
        if parent.split("/")[0] in (PACKAGE, "admin"):
            extended = get_template(parent).template.nodelist
            there = {each.name for each in extended.get_nodes_by_type(BlockNode)}
            here = {each.name for each in node.nodelist.get_nodes_by_type(BlockNode)}
            assert here <= there, f"{parent} has no block {', '.join(here - there)}"
    for path in re.findall(r"{% static '(.+?)' %}", text):
        assert finders.find(path), f"there is no file {path}"


def css(text: str) -> None:
    """Parse it, and find the names in it that are the page's in its style sheet."""
    _parse(tree_sitter_css, text)
    there = Path(finders.find(f"{PACKAGE}/sessions.css")).read_text()
    for name in re.findall(r"--ms-[\w-]+|\.[a-z][\w-]*", text):
        assert name in there, f"the style sheet has no {name}"


def javascript(text: str) -> None:
    """Parse it. `use` is a command of mongosh, and no JavaScript."""
    _parse(tree_sitter_javascript, re.sub(r"^use \w+$", "", text, flags=re.MULTILINE))


def _parse(language: ModuleType, text: str) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(language.language()))
    root = parser.parse(text.encode()).root_node
    assert not root.has_error, str(root)


# Data


def toml(text: str) -> None:
    if sys.version_info >= (3, 11):
        import_module("tomllib").loads(text)


def ini(text: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


CHECKS = {
    "bash": bash,
    "console": console,
    "css": css,
    "html": html,
    "html+django": html,
    "ini": ini,
    "javascript": javascript,
    "json": json.loads,
    "python": python,
    "sh": bash,
    "text": lambda text: None,  # for what is no language
    "toml": toml,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}
