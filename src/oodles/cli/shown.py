"""What commands show: results on standard output, progress and errors on standard error."""

import json as json_format
import os
import sys
import warnings
from typing import Any, NoReturn

from oodles.remarks import CalibrationWarning, TrainingWarning
from oodles.spelling import visible


def show_warning(message: Warning | str, category: type[Warning], filename: str, line: int, *others: Any) -> None:
    """Show a warning of our own as one sentence, others as Python does."""
    if issubclass(category, (TrainingWarning, CalibrationWarning)):
        if os.environ.get("RANK", "0") == "0":
            say(str(message))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, line))


def refuse(sentence: str) -> NoReturn:
    say(sentence)
    raise SystemExit(2)


def say(sentence: str) -> None:
    """Print a sentence on standard error; what files hold cannot control the terminal."""
    print(visible(f"oodles: {sentence}", keep="\n"), file=sys.stderr)


def print_result(result: object) -> None:
    """Print a result, from the first process alone, under ``accelerate launch`` too; see :func:`say`."""
    if os.environ.get("RANK", "0") == "0":
        print(visible(str(result), keep="\n"))


def print_json(document: object) -> None:
    print_result(json_format.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def in_a_sentence(error: Exception) -> str:
    """Return what went wrong; what the system says of a file or of standard output needs a subject."""
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split("\n"))
    if error.filename is None:
        close_output()
    what = "The output" if error.filename is None else error.filename
    return f"{what} cannot be read or written: {error.strerror[:1].lower()}{error.strerror[1:]}."


def close_output() -> None:
    """Send what is left to print nowhere, or Python would fail once more when it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # it is no file
        return
