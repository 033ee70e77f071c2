"""What the files of a run must hold, said once: types and keys, nested, and what to do where one does not.

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
class Each:
    """A table with any keys, whose values are all of one form."""

    of: "Form"


@dataclass(frozen=True)
class Every:
    """A list of any length, whose values are all of one form."""

    of: "Form"


Form = Value | Each | Every | tuple[Any, ...] | Mapping[str, Any]
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
SIDES = Value(
    "[channels, height, width], or [features]",
    lambda value: isinstance(value, list) and len(value) in (1, 3) and all(COUNT.fits(side) and side for side in value),
)
SHARES = Value(
    "the least and the largest share",
    lambda value: isinstance(value, list) and len(value) == 2 and all(SHARE.fits(share) for share in value),
)
FACT = Value("text or a whole number", lambda value: isinstance(value, str) or COUNT.fits(value))
METRICS = Each(Each(Each((Each(SHARE), {"auroc": SHARE}))))
SIZES = (Each(COUNT), {"test": COUNT})
METHODS = Value(
    "a list of methods, each with a name",
    lambda value: (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value)
    ),
)


def one_of(*names: str) -> Value:
    """Make the form of a text that is one of these."""
    return Value(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


AUGMENT = Each(
    {
        **{"shift?": COUNT, "flip?": TRUTH, "crop?": SHARES, "transforms?": TEXT},
        **{"brightness?": SHARE, "contrast?": SHARE, "saturation?": SHARE, "hue?": SHARE},
    }
)
"""How sets are augmented, by name."""

STATED = {"mean?": Every(NUMBER), "std?": Every(POSITIVE)}
"""The normalisation of a network, where it was stated."""

RUN_FORM: Form = {
    "recipe": Each(ANY),
    "arguments": {"data": TEXT, "network": TEXT, "head": MAYBE_TEXT, "root?": Every(TEXT), **STATED},
    "initial": {"label": TEXT, "file?": TEXT, "sha256?": TEXT},
    "suggested": Each(Each(ANY)),
    "suite": {
        **{"classes": Every(TEXT), "sizes": SIZES, "notes": Each(TEXT)},
        **{"name?": TEXT, "sha256?": Each(TEXT), "input_shape?": SIDES, "resize?": COUNT},
        **{"mean?": Every(NUMBER), "std?": Every(POSITIVE), "augment?": AUGMENT},
        **{"outlier_shares?": Every(Every(NUMBER)), "imbalance?": POSITIVE},
        **{"draft?": TRUTH, "features?": {"columns?": Every(TEXT), "encoder?": TEXT, "text?": TEXT, "label?": TEXT}},
    },
    "frozen?": {"layers": Every(TEXT), "runs": TEXT, "because?": TEXT},
    "teacher?": {"label": TEXT, "file?": TEXT, "sha256?": TEXT},
    **{"draws?": COUNT, "validation_chose?": Every(TEXT), "command?": TEXT, "label?": TEXT, "environment?": Each(FACT)},
}
BUILT_FORM: Form = {"suite": {"input_shape": SIDES, "mean": Every(NUMBER), "std": Every(POSITIVE)}}
"""What building a run's network needs besides."""
LOG_FORM: Form = {
    **{"epoch": COUNT, "terms": Each(MAYBE_NUMBER), "validation_accuracy": SHARE, "seconds": SECONDS},
    **{"step?": COUNT, "learning_rate?": NUMBER, "measures?": Each(MAYBE_NUMBER), "choosing_accuracy?": SHARE},
}
RESULT_FORM: Form = {
    "status": one_of("finished", "diverged"),
    **{"reason?": TEXT, "test_accuracy?": SHARE, "validation_accuracy?": SHARE, "seconds?": SECONDS},
    **{"metrics?": METRICS, "sha256?": Each(TEXT), "chance?": SHARE, "warnings?": Every(TEXT), "remarks?": Each(TEXT)},
    "epoch?": COUNT,
}
STATUSES = ("finished", "diverged", "unfinished")
LINE_FORM: Form = {
    **{"data": TEXT, "label": TEXT, "seed": COUNT, "status": one_of(*STATUSES), "reason": TEXT},
    **{"settings": {"methods": METHODS}, "suggested": Each(Each(ANY)), "initial_weights": TEXT},
    **{"environment": Each(ANY), "sizes": SIZES, "sha256": Each(TEXT), "notes": Each(TEXT)},
    **{"accuracy": MAYBE_SHARE, "seconds": MAYBE_SECONDS, "metrics": METRICS},
    **{"chance?": MAYBE_SHARE, "warnings?": Every(TEXT), "remarks?": Each(TEXT), "augment?": AUGMENT},
}
"""Of a line of a file of results."""


def counters_form(batches: int, accumulate: int) -> Form:
    """Return the form of the counters of a saved state, of a training of so many batches and batches a step."""
    position = Value(
        f"a whole number of batches, of {batches}, and of steps of {accumulate}",
        lambda value: COUNT.fits(value) and value <= batches and value % accumulate == 0,
    )
    return {"position": position, "seconds": SECONDS, "sums": Each(NUMBER), "scaler": Each(NUMBER)}


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
