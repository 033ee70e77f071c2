"""What to say about a mistyped name."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about a mistyped word: the nearest known one, else ``otherwise``, else all of them."""
    known = list(known)
    near = get_close_matches(word, known, n=1)
    if near:
        return f": did you mean {near[0]!r}?"
    return f": {otherwise}" if otherwise else f": expected one of {', '.join(known)}."
