"""Write files that are whole or not there: JSON, JSON lines, text, tables and arrays.

A file is written under another name, forced to disk and then renamed, so a reader finds the old one or the new one and
never half of one. What exists and is no file, such as a device or a pipe, is written to.
"""

import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from stat import S_IMODE
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

UNFINISHED = ".unfinished"
"""How the names of files end that are not whole yet; a crash may leave one."""


@contextmanager
def in_one_piece(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when all of it is on the disk, and not before.

    The target of a link is replaced and the link stays; a file that is replaced keeps its mode. Devices, pipes and
    sockets are written to directly.

    Raises:
        OSError: that names ``path`` and says why it cannot be written.
    """
    try:
        with _direct(path) if path.exists() and not path.is_file() else _replaced(path) as file:
            yield file
    except BrokenPipeError:  # its reader has seen enough
        raise
    except OSError as error:
        if error.strerror is None:
            raise
        why = error.strerror[:1].lower() + error.strerror[1:]
        raise OSError(f"{path} cannot be written, {why}: choose another place or make room for it.") from error


@contextmanager
def _direct(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        yield file


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(None, "it is a link that leads to itself")
    before = target.stat() if target.exists() else None
    if before and not os.access(target, os.W_OK):
        raise PermissionError(None, "it is read-only")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(
        f".{target.name[:100]}.{secrets.token_hex(8)}{UNFINISHED}"
    )  # nobody can have put a link there
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            if before:
                _keep(file.fileno(), before)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the new name itself; not every system can force a folder to disk
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _keep(file: int, before: os.stat_result) -> None:
    """Give a new file the owner and the mode of the one whose place it takes, as far as that is allowed."""
    with suppress(OSError, AttributeError):  # other systems know neither
        os.fchown(file, before.st_uid, before.st_gid)
    with suppress(OSError, AttributeError):
        os.fchmod(file, S_IMODE(before.st_mode))


def check_writable(path: Path) -> None:
    """Refuse, before any work, a path that no file can take.

    Raises:
        ValueError: for a folder, and a path below a file.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be a file to write, and it is a folder: give a name in it.")
    if blocked := next((parent for parent in path.parents if parent.is_file()), None):
        raise ValueError(f"{path} must be a file to write, and {blocked} is a file: choose another place.")


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$XDG_CACHE_HOME/oodles``, or ``~/.cache/oodles``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oodles"


def sha256_of(path: Path) -> str:
    """Return the fingerprint of a file's content."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file in one piece."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines in one piece."""
    write_text(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece."""
    with in_one_piece(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # names of files may hold what is no character


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV; text that a spreadsheet would take for a formula gets an apostrophe, numbers stay."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def _cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", "\\r")  # which csv does not quote, and readers take for the end of a line
    if cell[:1] not in tuple("=+-@\t\n"):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` file in one piece."""
    with in_one_piece(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
