"""Say what a JSON file must hold: types and keys, nested; and refuse a file that does not, in one sentence.

Keys that end on ``?`` may be missing, as older versions did not write them; further keys are fine, as newer ones may.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

LARGEST = 2**53
"""Beyond it, a whole number is no count of anything."""
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


@dataclass(frozen=True)
class Value:
    """A value of one type, in words."""

    words: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Maybe:
    """What is null, or of a form."""

    of: "Form"


@dataclass(frozen=True)
class Each:
    """A table with any keys, whose values are all of one form."""

    of: "Form"


@dataclass(frozen=True)
class Every:
    """A list of any length, whose values are all of one form."""

    of: "Form"


Form = Value | Maybe | Each | Every | tuple[Any, ...] | Mapping[str, Any]
"""A mapping has keys of its own, whose values are forms; a tuple holds forms that must all fit."""


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number and no boolean."""
    return type(value) in (int, float) and abs(value) <= 1e300 and math.isfinite(value)


ANY = Value("anything", lambda value: True)
TEXT = Value("text", lambda value: isinstance(value, str))
MAYBE_TEXT = Value("text or null", lambda value: value is None or isinstance(value, str))
TRUTH = Value("true or false", lambda value: isinstance(value, bool))
COUNT = Value("a whole number of at least 0", lambda value: type(value) is int and 0 <= value <= LARGEST)
NUMBER = Value("a finite number", is_number)
MAYBE_NUMBER = Value("a finite number or null", lambda value: value is None or is_number(value))
SECONDS = Value("a number of seconds", lambda value: is_number(value) and value >= 0)
MAYBE_SECONDS = Value("a number of seconds or null", lambda value: value is None or SECONDS.fits(value))
POSITIVE = Value("a number above 0", lambda value: is_number(value) and value > 0)
# rounding may put an accuracy or a metric slightly outside [0, 1]
SHARE = Value("a number from 0 to 1", lambda value: is_number(value) and -1e-9 <= value <= 1 + 1e-9)
MAYBE_SHARE = Value("a number from 0 to 1 or null", lambda value: value is None or SHARE.fits(value))


def one_of(*names: str) -> Value:
    """Make the form of a text that is one of these."""
    return Value(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def check_form(value: Any, form: Form, place: str, advice: str) -> None:
    """Refuse a value that is not of a form.

    Args:
        value: as JSON gives it.
        form: what it must be.
        place: the file, and where in it.
        advice: what to do, the end of the sentence.

    Raises:
        ValueError: that names the place and the key.
    """
    if fault := _fault(value, form, ""):
        raise ValueError(f"{place}: {fault}; {advice}.")


def _fault(value: Any, form: Form, key: str) -> str:
    """Say what is wrong with the value at a key; return nothing where it is right."""
    here = key or "its content"
    if isinstance(form, Value):
        return "" if form.fits(value) else f"{here} must be {form.words}, got {_SHORT.repr(value)}"
    if isinstance(form, Maybe):
        return "" if value is None else _fault(value, form.of, key)
    if isinstance(form, tuple):
        return next(filter(None, (_fault(value, one, key) for one in form)), "")
    if isinstance(form, Every):
        if not isinstance(value, list):
            return f"{here} must be a list, got {_SHORT.repr(value)}"
        return next(filter(None, (_fault(one, form.of, f"{here}[{place}]") for place, one in enumerate(value))), "")
    if not isinstance(value, dict):
        return f"{here} must be a table of keys and values, got {_SHORT.repr(value)}"
    inside = f"{key}." if key else ""
    if isinstance(form, Each):
        return next(filter(None, (_fault(one, form.of, f"{inside}{name}") for name, one in value.items())), "")
    for name, of in form.items():
        name, optional = name.removesuffix("?"), name.endswith("?")
        if name not in value and not optional:
            return f"{inside}{name} is missing"
        if name in value and (fault := _fault(value[name], of, f"{inside}{name}")):
            return fault
    return ""


def parse_json(content: bytes, place: str, advice: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: that names the place, for text that is none.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError(
            f"{place} is not UTF-8 text: it was damaged, or written by another program; {advice}."
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if content.strip() else "it is empty"
        raise ValueError(f"{place} is not JSON ({where}): it was cut short or changed by hand; {advice}.") from None
    except (ValueError, RecursionError):
        raise ValueError(
            f"{place} is not JSON that can be read: numbers or lists in it are too long; {advice}."
        ) from None


def read_json(path: Path, form: Form, advice: str) -> Any:
    """Read a JSON file of a form.

    Raises:
        ValueError: that names the file and the key.
    """
    value = parse_json(path.read_bytes(), str(path), advice)
    check_form(value, form, str(path), advice)
    return value
