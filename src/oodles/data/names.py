"""Names of files, classes and sets: which are one name, where a file of that name is, and how a name is shown."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

NAMED = 10
"""How many of many are named in a sentence."""


def composed(name: str) -> str:
    """Return a name in Unicode's composed form: file systems and programs differ in which of the forms they write."""
    return normalize("NFC", name)


def shown(name: str) -> str:
    """Return a file's name as text that can be written everywhere: a byte that is no UTF-8 becomes ``\\xNN``."""
    return re.sub("[\ud800-\udfff]", _escaped, name)


def find(path: Path) -> Path | None:
    """Return the path at which something is, also where its name is stored in the other Unicode form."""
    if os.path.exists(path):
        return path
    folder = None if path.parent == path else find(path.parent)
    if folder is None or not folder.is_dir():
        return None
    beside = [folder / path.name] if path.name.isascii() else sorted(folder.iterdir())
    same = (other for other in beside if composed(other.name) == composed(path.name))
    return next((other for other in same if os.path.exists(other)), None)


def some(names: Sequence[str]) -> str:
    """Name the first of many, and count the others."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def in_order(classes: Iterable[str]) -> tuple[str, ...]:
    """Sort names of classes by the alphabet, or as numbers where all are whole numbers of at most 18 digits."""
    names = set(classes)
    numbered = all(name.isdecimal() and len(name) <= 18 for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbered else 0, name)))


def numbered(names: Iterable[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return class ids of rows that name their classes, and the names that they count, in order."""
    rows = list(names)
    classes = in_order(rows)
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for name in rows], dtype=np.int64), classes


def _escaped(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
