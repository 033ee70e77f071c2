"""Settings of the documentation site, which `make docs` builds; methods.py and examples.py generate parts of it."""

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import methods

import examples
import oodles

project = "Oodles"
author = "Oodles contributors"
version = release = oodles.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3  # links to the headings of other pages
exclude_patterns = ["_build", "methods/_*"]

html_theme = "furo"
html_title = f"Oodles {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

autodoc_inherit_docstrings = False
nitpicky = True
nitpick_ignore = [("py:class", "Values"), ("py:class", "Scores")]  # names for type checkers alone


def add_output(app: Sphinx, page: str, source: list[str]) -> None:
    """Put below each example what it prints."""
    if app.config.run_examples and not page.startswith("methods/"):
        source[0] = examples.with_output(source[0], page)


def mark_paragraphs(app: Sphinx, kind: str, name: str, what: Any, options: Any, lines: list[str]) -> None:
    """Set the titles of our docstrings' short sections in bold; |x| is an absolute value."""
    text = re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", "\n".join(lines))
    text = re.sub(r"^(When to use|Cost|Caveat|Source): ", r"\n**\1:** ", text, flags=re.MULTILINE)
    # in an attribute's docstring, words before a colon would be read as its type: an empty comment prevents that
    lines[:] = [*(["..", ""] if kind in ("attribute", "property", "data") else []), *text.splitlines()]


def show_defaults(
    app: Sphinx, kind: str, name: str, what: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show dots in signatures of data classes for defaults that are made anew, which cannot be read."""
    return signature and signature.replace("<factory>", "..."), returns


def resolve(app: Sphinx, env: Any, node: Any, text: nodes.Node) -> nodes.Node | None:
    """Resolve a name in our docstrings and signatures: to a link where these pages have it, else to its words.

    A name that no module of the package has is left for Sphinx to report.
    """
    last = node["reftarget"].rpartition(".")[2]
    python = env.get_domain("py")
    for full in python.objects:
        if full.rpartition(".")[2] == last and node["reftarget"] != full:
            return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], full, node, text)
    return text if last in known_names() or node["reftarget"].startswith(ELSEWHERE) else None


ELSEWHERE = ("collections.", "jaxtyping.", "numpy.", "pathlib.", "torch.")


@cache
def known_names() -> frozenset[str]:
    """Return the names in our modules, and in the classes there."""
    names: set[str] = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "oodles":
            names.update(vars(module))
            names.update(member for value in vars(module).values() if isinstance(value, type) for member in vars(value))
    return frozenset(names)


def setup(app: Sphinx) -> None:
    app.add_config_value("run_examples", True, "env", bool)
    app.connect("builder-inited", lambda app: methods.write())
    app.connect("source-read", add_output)
    app.connect("autodoc-process-docstring", mark_paragraphs, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("missing-reference", resolve)
