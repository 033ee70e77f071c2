"""Write files that are whole or not there: JSON, JSON lines, text and arrays.

A file is written under another name, forced to disk and then renamed, so a reader finds the old one or the new one and
never half of one.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


@contextmanager
def in_one_piece(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when all of it is on the disk, and not before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # the new name itself
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file in one piece."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines in one piece."""
    write_text(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece."""
    with in_one_piece(path) as file:
        file.write(text.encode("utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` file in one piece."""
    with in_one_piece(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
