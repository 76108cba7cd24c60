"""The reference in docs/api.rst has every public name."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
from django.contrib.sessions.backends.base import SessionBase

import django_mongo_sessions
from django_mongo_sessions.backends.mongodb import SessionStore
from tests.docs import languages

PAGE = (Path(__file__).parents[2] / "docs" / "api.rst").read_text()
MODULES = re.findall(r"automodule:: (\S+)", PAGE)
# What Django imports, and no site.
OF_DJANGO = {"admin", "apps", "conf", "models", "urls"}


def test_each_public_module_is_in_the_reference():
    top = {
        module.name
        for module in pkgutil.iter_modules(django_mongo_sessions.__path__)
        if not module.ispkg
    }

    public = {f"{languages.PACKAGE}.{name}" for name in top - OF_DJANGO}
    middleware, engine = (
        f"{languages.PACKAGE}.{name}" for name in ("middleware", "backends.mongodb")
    )
    assert set(MODULES) == {*public, middleware, engine}


@pytest.mark.parametrize("name", MODULES)
def test_each_public_name_is_in_the_reference(name):
    module = import_module(name)
    names = getattr(module, "__all__", ())
    own = [each for each, value in vars(module).items() if is_defined_in(name, value)]

    for each in names or [each for each in own if not each.startswith("_")]:
        assert re.search(rf"^\.\. auto\w+:: {each}$", PAGE, re.MULTILINE), each


def is_defined_in(name, value):
    is_code = inspect.isclass(value) or inspect.isfunction(value)
    return is_code and value.__module__ == name


@pytest.mark.parametrize("name", MODULES)
def test_each_example_in_a_docstring_is_python(name):
    for text in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", inspect.getdoc(import_module(name)) + "\n"):
        languages.python(inspect.cleandoc(text))


def test_each_method_of_a_session_is_in_the_reference():
    stores = [
        each for each in SessionStore.__mro__ if each.__module__.startswith(languages.PACKAGE)
    ]
    documented = {name for each in stores for name in vars(each)}

    for name in set(dir(SessionBase)) - documented:
        if not name.startswith("_") and name.islower() and name != "key_salt":
            assert re.search(rf"``{name}(\(\))?``", PAGE), name
