"""A module imports from lower floors only."""

import ast
from pathlib import Path

import pytest

import django_mongo_sessions

PACKAGE = Path(django_mongo_sessions.__file__).parent
FLOORS = [
    {
        *("__init__", "conf", "codec", "dates", "documents", "drivers", "exceptions"),
        *("factories", "findings", "merging", "models", "probes", "redaction", "refusals"),
        *("snapshots", "uris"),
    },
    {"operations", "attempts", "breaker", "mapper", "verdicts"},
    {"state", "indexes", "connection", "outages"},
    {"writes", "status", "clients"},
    {"steps", "driving"},
    {"settling"},
    {"verbs"},
    {"backends.mongodb"},
    {"stand_in"},
    {"middleware"},
    {"checks", "management.commands.mongosessions"},
    {"apps"},
]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.parent == PACKAGE or path.name != "__init__.py"
}


def imported(path):
    """Yield the modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "django_mongo_sessions":
                for name in node.names:
                    yield name.name if name.name in MODULES else "__init__"
            elif node.module.startswith("django_mongo_sessions."):
                yield node.module.partition(".")[2]


def floor(module):
    return next(number for number, names in enumerate(FLOORS) if module in names)


def test_every_module_has_a_floor():
    assert set(MODULES) == set().union(*FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_lower_floors_only(module):
    lower = set().union({"__init__"}, *FLOORS[: floor(module)])

    assert set(imported(MODULES[module])) <= lower


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_conf_reads_the_settings(module):
    reads = "django.conf import settings" in MODULES[module].read_text()

    of_djangos_own = ("checks", "middleware", "stand_in")
    assert reads == (module in ("conf", *of_djangos_own))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_can_be_read_in_one_go(module):
    assert len(MODULES[module].read_text().splitlines()) <= 200
