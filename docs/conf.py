"""Settings of the documentation site, which `make docs` builds; methods.py and examples.py make what is generated."""

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import examples
import methods

import oodles

project = "Oodles"
author = "Oodles contributors"
version = release = oodles.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
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
nitpick_ignore = [("py:class", "Values")]  # a name for type checkers alone


def with_examples(app: Sphinx, page: str, source: list[str]) -> None:
    """Puts below each example what it prints."""
    if app.config.run_examples and not page.startswith("methods/"):
        source[0] = examples.with_output(source[0], page)


def with_paragraphs(app: Sphinx, kind: str, name: str, what: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings' sections of one paragraph with their words in bold; |x| is an absolute value."""
    text = re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", "\n".join(lines))
    text = re.sub(r"^(When to use|Cost|Caveat|Source): ", r"\n**\1:** ", text, flags=re.MULTILINE)
    # of an attribute, words before a colon would be taken for its type: an empty comment keeps them from that
    lines[:] = [*(["..", ""] if kind in ("attribute", "property", "data") else []), *text.splitlines()]


def with_defaults(
    app: Sphinx, kind: str, name: str, what: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signatures of data classes, in which a default that is made anew cannot be read."""
    return signature and signature.replace("<factory>", "..."), returns


def resolved(app: Sphinx, env: Any, node: Any, text: nodes.Node) -> nodes.Node | None:
    """A name as our docstrings and signatures write it: a link where these pages have it, words where it is elsewhere.

    What is in no module of the package either is a mistake, and is left to be complained about.
    """
    last = node["reftarget"].rpartition(".")[2]
    python = env.get_domain("py")
    for full in python.objects:
        if full.rpartition(".")[2] == last and node["reftarget"] != full:
            return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], full, node, text)
    return text if last in known() or node["reftarget"].startswith(ELSEWHERE) else None


ELSEWHERE = ("collections.", "jaxtyping.", "numpy.", "pathlib.", "torch.")


@cache
def known() -> frozenset[str]:
    """The names in our modules, and in the classes there."""
    found: set[str] = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "oodles":
            found.update(vars(module))
            found.update(member for value in vars(module).values() if isinstance(value, type) for member in vars(value))
    return frozenset(found)


def setup(app: Sphinx) -> None:
    app.add_config_value("run_examples", True, "env", bool)
    app.connect("builder-inited", lambda app: methods.write())
    app.connect("source-read", with_examples)
    app.connect("autodoc-process-docstring", with_paragraphs, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", with_defaults)
    app.connect("missing-reference", resolved)
