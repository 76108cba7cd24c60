"""How Sphinx builds the documentation; `tox -e docs` does it."""

import sys
from pathlib import Path

from django_mongo_sessions import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "django_mongo_sessions"
author = "its contributors"
version = release = __version__
copyright = "its contributors"

extensions = ["myst_parser", "sphinx_copybutton", "from_code", "rooms"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False  # messages are shown as they are printed

exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Django sessions in MongoDB {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
