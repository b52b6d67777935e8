"""Sphinx configuration of the documentation: `make docs` builds it into docs/_build."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "site"))

from reference_pages import write_pages  # noqa: E402

import tuneoff  # noqa: E402

project = "tuneoff"
author = "the tuneoff developers"
release = version = tuneoff.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "site"]
myst_heading_anchors = 4
napoleon_numpy_docstring = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
smartquotes = False  # options are written with two hyphens
default_role = "code"  # docstrings write `name`

html_theme = "pydata_sphinx_theme"
html_title = "tuneoff"
html_show_sourcelink = False
html_theme_options = {
    "github_url": "https://github.com/tuneoff/tuneoff",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}

SOURCE = "https://github.com/tuneoff/tuneoff/blob/main/"


def _link_to_repository(app: Any, page: str, source: list[str]) -> None:
    """Turn links out of docs/, which GitHub resolves by itself, into links to the repository."""
    up = "../" * (page.count("/") + 1)
    source[0] = re.sub(rf"\]\({re.escape(up)}([^)]*)\)", rf"]({SOURCE}\1)", source[0])


def setup(app: Any) -> None:
    """Generate the reference before pages are read."""
    app.connect("builder-inited", lambda app: write_pages(HERE / "reference"))
    app.connect("source-read", _link_to_repository)
