"""How Sphinx makes the documentation: ``sphinx-build -W -b html docs build/docs``."""

from __future__ import annotations

import ate_dispatcher

project = "ate-dispatcher"
author = "the ate-dispatcher maintainers"
release = version = ate_dispatcher.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"ate-dispatcher {release}"
html_show_copyright = False

myst_heading_anchors = 3

default_role = "code"  # single backticks in docstrings are code
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes that a class documents are also found in the class
napoleon_preprocess_types = False
autodoc_default_options = {
    "members": True,
    "imported-members": True,
    "inherited-members": "Thread, BaseException, Enum, tuple, dict, str, ABC, Generic, Protocol",
    "show-inheritance": True,
    "member-order": "bysource",
}
suppress_warnings = [
    "ref.python",  # a type in a signature that two public modules have: any of them will do
    "myst.header",  # chapters of the README begin a level lower
]
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
