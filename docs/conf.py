"""How Sphinx builds these pages; `make docs` runs it."""

import re
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import manyhands

project = "manyhands"
author = "the manyhands developers"
copyright = "2026, the manyhands developers"  # noqa: A001 - Sphinx's name
release = manyhands.__version__
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Google-free plain docstrings: "Args:" and the like become definition lists.
extensions.append("sphinx.ext.napoleon")
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
# `__init__` says what a class is made with.
autodoc_default_options = {"exclude-members": "__new__"}
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

default_role = "code"  # what stands in single backticks

html_theme = "furo"
html_title = "manyhands"
html_show_sourcelink = False
# The pages need no network: furo's own fonts are the system's.
html_copy_source = False


# As in `_map.Workers`.
_PRIVATE = re.compile(r"\b(?:manyhands\.)?_[a-z_]+\.(?=[A-Z])")


def leave_out_private(
    _app: Any,
    _what: str,
    _name: str,
    _object: Any,
    _options: Any,
    signature: str | None,
    result: Any,
) -> tuple[str, Any] | None:
    """Leave out what only unpickling uses, and the private modules in which types are defined."""
    if signature is None:
        return None
    without = re.sub(r", _address: [^=]+ = None", "", signature)
    without = without.replace("(*)", "()").replace(", *)", ")")
    without = re.sub(r"<class '(\w+)'>", r"\1", without)
    return _PRIVATE.sub("", without), result and _PRIVATE.sub("", result)


def show_one_signature() -> None:
    """Show maps as they are called; their overloads are for type checkers, and leave words out."""
    for module in ("manyhands._map.map", "manyhands._map.forms", "manyhands._map.async_map"):
        analyzer = ModuleAnalyzer.for_module(module)
        analyzer.analyze()
        analyzer.overloads.clear()


def setup(app: Any) -> None:
    """Have Sphinx call it."""
    show_one_signature()
    app.connect("autodoc-process-signature", leave_out_private)
