"""Functions of a user's own, by name: ``package.module:function``; code that lies in a run folder is never imported."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from oodles.spelling import suggestion


def function_at(place: str, what: str) -> Callable[..., Any]:
    """Import the function at ``package.module:function``; modules in the current folder count, unless it is a run's.

    Args:
        place: where it is.
        what: the name of its purpose in errors.

    Raises:
        ValueError: where there is no such function, and where it lies in a run folder.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"{what} must be package.module:function, got {place!r}.")
    here = [] if _run_folder(Path.cwd()) else [str(Path.cwd())]
    sys.path += here
    try:
        folder = _run_folder_of(module_name)
        module = None if folder else import_module(module_name)
    except ImportError as error:
        where = "" if here else " (the current folder is that of a run, where no code is looked for)"
        raise ValueError(f"{what} {place!r} cannot be imported: {error}{where}.") from error
    except (Exception, SystemExit) as error:  # whatever the module does when it is run
        raise ValueError(f"{what} {place!r} cannot be imported: {in_words(error)}.") from error
    finally:
        for added in here:
            sys.path.remove(added)
    if folder:
        raise ValueError(
            f"{what} {place!r} lies in the run folder {folder}, and no code in run folders is imported: "
            "move it elsewhere if you trust it."
        )
    function = getattr(module, name, None)
    if function is None:
        names = [attribute for attribute in dir(module) if not attribute.startswith("_")]
        hint = suggestion(name, names, "check the spelling.")
        raise ValueError(f"{module_name} must hold a function {name!r}, but does not{hint}")
    if not callable(function):
        raise ValueError(f"{place} must be a function, got {type(function).__name__}.")
    return function  # type: ignore[no-any-return]  # checked to be callable


def _run_folder_of(module_name: str) -> Path | None:
    """Return the run folder that a module or a package around it lies in, if one does; import only what does not."""
    for name in accumulate(module_name.split("."), "{}.{}".format):
        if name in sys.modules:
            continue
        spec = find_spec(name)
        places = [spec.origin if spec.has_location else None, *(spec.submodule_search_locations or ())] if spec else []
        for place in filter(None, places):
            if folder := _run_folder(Path(place)):
                return folder
    return None


def _run_folder(path: Path) -> Path | None:
    """Return the folder with a ``run.json`` that a path lies in, by its own name or by what links lead to."""
    around = [path.absolute(), *path.absolute().parents, path.resolve(), *path.resolve().parents]
    return next((folder for folder in around if (folder / "run.json").is_file()), None)


def in_words(error: BaseException) -> str:
    """Say on one line, for the end of a sentence, what went wrong in a user's own code."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
