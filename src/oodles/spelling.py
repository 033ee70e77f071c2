"""Suggestions for mistyped names."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known word that is most alike, or nothing where none is alike enough: 1 is the same word."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")


def suggestion(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """End a sentence about a mistyped word: with the nearest known one, else ``otherwise``, else all of them."""
    known = list(known)
    if near := nearest(word, known):
        return f": did you mean {near!r}?"
    return f": {otherwise}" if otherwise else f": expected one of {', '.join(known)}."
