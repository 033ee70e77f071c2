"""Functions of a user's own, by name: ``package.module:function``."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from oodles.spelling import suggestion


def function_at(place: str, what: str) -> Callable[..., Any]:
    """Import the function at ``package.module:function``; modules in the current folder count.

    Args:
        place: where it is.
        what: the name of its purpose in errors.

    Raises:
        ValueError: where there is no such function.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"{what} must be package.module:function, got {place!r}.")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{what} {place!r} cannot be imported: {error}.") from error
    except (Exception, SystemExit) as error:  # whatever the module does when it is run
        raise ValueError(f"{what} {place!r} cannot be imported: {in_words(error)}.") from error
    finally:
        sys.path.remove(here)
    function = getattr(module, name, None)
    if function is None:
        names = [attribute for attribute in dir(module) if not attribute.startswith("_")]
        hint = suggestion(name, names, "check the spelling.")
        raise ValueError(f"{module_name} must hold a function {name!r}, but does not{hint}")
    if not callable(function):
        raise ValueError(f"{place} must be a function, got {type(function).__name__}.")
    return function  # type: ignore[no-any-return]  # checked to be callable


def in_words(error: BaseException) -> str:
    """Say on one line, for the end of a sentence, what went wrong in a user's own code."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
