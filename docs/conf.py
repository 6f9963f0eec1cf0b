"""Settings of the site, which ``python -m sphinx -W docs build/site`` builds."""

import re
from typing import Any

import infoprobe

project = "infoprobe"
author = "The infoprobe authors"
copyright = author
version = release = infoprobe.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns: list[str] = []

# The pages are Markdown. Those that begin with "file_format: mystnb" are executed as notebooks.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

# Blocks that say no language are commands and printed tables.
highlight_language = "none"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_type_aliases = {"ArrayLike": "infoprobe.ArrayLike"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Every reference to a name of infoprobe must lead somewhere. The types in signatures may belong to
# other libraries, or to the inside of this one.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:.*", r"(torch|sys)\..*")]

html_theme = "furo"
html_title = f"infoprobe {version}"
html_copy_source = False


def _with_plain_aliases(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """A signature with the names of types that have one."""
    if not signature:
        return None
    return re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1", signature), returned


def _is_repetition(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Whether a member is the field of a named tuple, which its class has described."""
    return True if str(member.__doc__).startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Connects what Sphinx is to call."""
    app.connect("autodoc-skip-member", _is_repetition)
    app.connect("autodoc-process-signature", _with_plain_aliases)
