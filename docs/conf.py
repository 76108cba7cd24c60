"""How Sphinx builds the documentation; `tox -e docs` does it."""

import os
import sys
from pathlib import Path

import django

from django_mongo_sessions import __version__

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

# The reference is made from modules that import models. Nothing connects to a server.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
django.setup()

project = "django_mongo_sessions"
author = "its contributors"
version = release = __version__
copyright = "its contributors"

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "sphinx_copybutton",
    "from_code",
    "reference",
    "rooms",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True
# What is documented elsewhere. Names of this package's own have to be in the reference.
nitpick_ignore_regex = [("py:.*", r"(collections|datetime|django|pymongo)\..+")]
nitpick_ignore = [
    ("py:class", "django_mongo_sessions.backends.mongodb.Result"),  # type variables
    ("py:class", "django_mongo_sessions.backends.mongodb.Store"),
    # What from_predecessor() is given. Its text says what there is to use.
    ("py:class", "django_mongo_sessions.engine.predecessors.OldSession"),
]
copybutton_prompt_text = "$ "  # and so it copies neither that nor what is printed
smartquotes = False  # messages are shown as they are printed

default_role = "code"  # in docstrings, which have single backticks
add_module_names = False
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Django sessions in MongoDB {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
