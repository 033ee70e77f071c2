"""Suggestions for mistyped names, and names as terminals may show them."""

from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import bidirectional, category


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known word that is most alike, or nothing where none is alike enough: 1 is the same word."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")


def suggestion(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """End a sentence about a mistyped word: with the nearest known one, else ``otherwise``, else all of them."""
    known = list(known)
    if near := nearest(word, known):
        return f": did you mean {near!r}?"
    return f": {otherwise}" if otherwise else f": expected one of {', '.join(known)}."


def visible(text: str, keep: str = "") -> str:
    """Escape what would control a terminal: control characters, other directions of writing, halves of characters.

    Args:
        text: may come from a file.
        keep: control characters that stay, such as ends of lines.
    """
    if text.isprintable():
        return text
    return "".join(f"\\u{ord(sign):04x}" if _controls(sign) and sign not in keep else sign for sign in text)


def _controls(sign: str) -> bool:
    turns = bidirectional(sign) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return turns or category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in "\u200e\u200f\u061c"
