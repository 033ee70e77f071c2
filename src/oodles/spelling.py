"""Words of sentences: suggestions for mistyped names, values that were not expected, names as terminals show them."""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real
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


def reason(error: Exception) -> str:
    """Return the first sentence of another library's error, without its stop, to end a sentence of our own."""
    text = str(error).split("\n")[0].split(". ")[0]
    return text.rstrip(".") or type(error).__name__


def shown(value: object) -> str:
    """Return a number or a word as it is written, on one short line; of anything else the type."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    if not isinstance(value, str | Real):
        return "None" if value is None else type(value).__name__
    text = repr(value) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 and text.isprintable() else f"{text[:50]!a}…"


def set_name(ood_set: str) -> str:
    """Write ``near:letters`` as people read it: ``near-OOD letters``."""
    kind, _, name = ood_set.partition(":")
    return f"{kind}-OOD {name}" if name else ood_set
