"""Oodles: training-time out-of-distribution detection.

The public surface is the page beside this file, ``__init__.pyi``. Names are imported when they are first used, so that
commands which need no torch start quickly.
"""

from functools import cache
from importlib import import_module

__version__ = "0.2.0"


@cache
def _homes() -> dict[str, str]:
    """Read from the public page the module of every name.

    Type checkers need these names written out as imports, and would not know them from a list that is read here. So the
    page is theirs, and read here too: each name stands there once. It is read at the first use, which keeps ``ast`` out
    of ``import oodles``.
    """
    import ast
    from pathlib import Path

    page = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {name.name: str(one.module) for one in page.body if isinstance(one, ast.ImportFrom) for name in one.names}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("__") or name not in _homes():
        raise AttributeError(f"module 'oodles' has no attribute {name!r}")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_homes(), "__all__"])
