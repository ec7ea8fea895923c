"""Sphinx configuration: Markdown pages (MyST), Google-style docstrings, the furo theme."""

import mtl

project = "mtl"
version = release = mtl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
# Single backticks in docstrings mark code.
default_role = "code"

autodoc_member_order = "bysource"
# Types are shown with the arguments, defaults in the signature.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"mtl {release}"
html_show_sphinx = html_show_copyright = False
html_copy_source = False
