"""A folder imports from lower layers only, and other rules about who may do what."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import django_mongo_sessions

PACKAGE = Path(django_mongo_sessions.__file__).parent

# From the bottom. A folder, or a module at the top of the package, is a room. Rooms of one layer
# know nothing of each other.
LAYERS = [
    {"__init__", "conf", "exceptions", "models"},
    {"connection", "storage"},
    {"mongo", "devices", "signals"},
    {"engine", "checks"},
    {"backends"},
    {"middleware"},
    {"users"},
    {"views", "modeladmin"},
    {"management", "apps", "testing", "log", "urls", "admin", "templatetags"},
]


def modules():
    """Return the path of each module, by its name within the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module):
    return module.partition(".")[0]


def layer(module):
    return next(number for number, rooms in enumerate(LAYERS) if room(module) in rooms)


def imported(path):
    """Return the modules of this package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module.partition(".")[0] == "django_mongo_sessions":
                inside = node.module.partition(".")[2]
                for name in node.names:
                    full = f"{inside}.{name.name}".strip(".")
                    found.add(full if full in MODULES else inside or "__init__")
    return found


def test_every_room_has_a_layer():
    assert {room(module) for module in MODULES} == set().union(*LAYERS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_lower_layers_and_its_own_room(module):
    for other in imported(MODULES[module]):
        assert room(other) == room(module) or layer(other) < layer(module) or other == "exceptions"


def test_there_is_no_cycle_within_a_room():
    needs = defaultdict(set)
    for module, path in MODULES.items():
        needs[module] = {
            other for other in imported(path) if room(other) == room(module) and other != module
        }
    while free := [module for module, others in needs.items() if not others]:
        for module in free:
            del needs[module]
        for others in needs.values():
            others.difference_update(free)

    assert not needs


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_conf_reads_the_settings(module):
    reads = "django.conf import settings" in MODULES[module].read_text()

    of_djangos_own = ("checks.settings", "middleware.sessions", "middleware.deferred", "views")
    assert reads == (module in ("conf", *of_djangos_own))


@pytest.mark.parametrize(
    "module", sorted(module for module in MODULES if room(module) in ("engine", "storage"))
)
def test_engine_and_storage_import_only_errors_of_pymongo(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.partition(".")[0] in ("pymongo", "bson"):
                assert name in ("pymongo.errors", "bson.errors")


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room(module) == "engine"))
def test_only_session_assigns_private_state_of_a_session(module):
    assigned = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, (ast.Store, ast.Del))
        and node.attr.startswith("_")
    }

    assert not assigned or module == "engine.session"
