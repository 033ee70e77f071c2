"""Vectors in files: tables in CSV, with labels where there are some, and ``.npy`` arrays. Nothing is unpickled."""

import csv
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from oodles.data.names import composed, numbered, some
from oodles.data.names import shown as writable
from oodles.data.raw import RawImages
from oodles.spelling import nearest, shown, suggestion

TAB_SEPARATED = (".tsv", ".tab")
MISSING = {"", "?", "na", "n/a", "<na>", "nan", "null"}
"""Cells that stand for a missing value, in lower case."""
BEYOND = float(2**128 - 2**103)
"""The least number that float32 rounds to infinity."""
FAULTS = {
    "text": "holds text where numbers are meant in {}: write decimals with a point, leave such columns out with "
    "columns = […], or encode them as numbers.",
    "missing": "has missing values in {}: fill them in, or leave these rows or columns out.",
    "infinity": "holds infinity in {}: leave these rows out.",
    "large": "holds numbers beyond the range of float32, ±3.4e38, in {}: scale them.",
}
"""Sentences about cells that are no features, by what they are; text comes first, as it concerns whole columns."""


def read_table(path: Path, label: str = "label", columns: Sequence[str] = ()) -> RawImages:
    """Read vectors (N, F) from a CSV file with a header line; every column but the label's is a feature.

    Rows are named by their lines, and classes are the values of the label column, in order. A table without that
    column, or with nothing in it, has no labels.

    Args:
        path: the file; cells are separated by tabs in ``.tsv`` files, and by commas, semicolons or tabs in others.
        label: the column of labels.
        columns: the columns that are features, in their order; all but the label's where it is empty.

    Raises:
        ValueError: for cells that are no finite numbers, and whatever else keeps the file from being such a table.
    """
    lines = read_cells(path)
    header = next(lines)[1]
    label, columns = composed(label), [composed(name) for name in columns]
    features = _features(header, label, columns, path)
    places = [header.index(name) for name in features]
    label_place = header.index(label) if label in header else None
    numbers, names, labels = array("f"), list[str](), list[str | None]()
    faults: dict[str, dict[str, list[tuple[int, str]]]] = {kind: {} for kind in FAULTS}
    for line, row in lines:
        cells = [row[place] for place in places]
        try:
            numbers.extend(map(_number, cells))
        except ValueError:
            for name, cell in zip(features, cells, strict=True):
                if fault := _fault(cell):
                    faults[fault].setdefault(name, []).append((line, cell))
        names.append(str(line))
        if label_place is not None:
            labels.append(None if row[label_place].strip().casefold() in MISSING else row[label_place])
    if not names:
        raise ValueError(f"{path} must hold rows below its header, but has none.")
    for kind, found in faults.items():
        if found:
            raise ValueError(f"{path} {FAULTS[kind].format(some([_first(*one) for one in found.items()]))}")
    ids, classes = class_ids(labels, [f"line {name}" for name in names], str(path))
    vectors = np.array(numbers, dtype=np.float32).reshape(len(names), len(features))
    return RawImages(str(path), vectors, ids, classes, tuple(names), columns=features)


def read_cells(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the header of a CSV file, then every row, as long as the header, with the line where it begins.

    Names in the header are without blanks around them; blank lines are left out.

    Raises:
        ValueError: for a file without header, names that are there twice, rows of other lengths and broken quotes.
    """
    header: tuple[str, ...] = ()
    line = 1
    try:
        with opened(path) as file:
            rows = csv.reader(file, delimiter=_separator(file, path), strict=True)
            for row in rows:
                begun, line = line, rows.line_num + 1
                if not row or (len(row) == 1 and row[0].isspace()):
                    continue
                if not header:
                    header = tuple(composed(name.strip()) for name in row)
                    if twice := [shown(name) for name in dict.fromkeys(header) if header.count(name) > 1]:
                        raise ValueError(f"{path} must name every column once, but names {some(twice)} more than once.")
                    row = list(header)
                if len(row) != len(header):
                    raise ValueError(
                        f"line {begun} of {path} must have {len(header)} cells, as the header has, got {len(row)}: "
                        "put text in quotes if it holds the sign that separates cells."
                    )
                yield begun, tuple(row)
    except csv.Error as error:
        raise ValueError(
            f"line {line} of {path} cannot be read as CSV, {error}: put the text in quotes, and double those in it."
        ) from error
    if not header:
        raise ValueError(f"{path} must begin with a line that names its columns, but is empty.")


def class_ids(
    labels: Sequence[str | None], rows: Sequence[str], place: str
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Return class ids and the names of the classes, in order; neither where no row has a label.

    Args:
        labels: names of classes; none for rows without.
        rows: the place of every row, for errors.
        place: where the rows are.

    Raises:
        ValueError: where some rows have a label and others none.
    """
    without = [row for row, label in zip(rows, labels, strict=False) if label is None]
    if len(without) == len(labels):
        return None, ()
    if without:
        raise ValueError(
            f"{place} must have a label in every row or in none, but {len(without)} of {len(labels)} have none, the "
            f"first in {without[0]}."
        )
    return numbered(writable(composed(label.strip())) for label in labels if label is not None)


def instead(name: str, header: Iterable[str]) -> str:
    """End a sentence about a name that is not there: with the nearest that is, or those that are."""
    return suggestion(name, header, f"it has {some([shown(other) for other in header]) or 'none'}.")


def check_no_label(label: str, others: Iterable[str], place: str) -> None:
    """Refuse a label column that is not there where another's name is nearly the same.

    Raises:
        ValueError: that names both.
    """
    by_case = {name.casefold(): name for name in others}
    if near := nearest(label.casefold(), by_case, cutoff=0.8):
        raise ValueError(f"{place} has no column {shown(label)} for labels: did you mean {shown(by_case[near])}?")


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8; ends of lines stay as they are.

    Raises:
        ValueError: where what is read is no UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8, but {_no_utf_8(path)}: save it as UTF-8.") from error


def _no_utf_8(path: Path) -> str:
    """Say where the first byte is that is no UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"byte 0x{line[error.start]:02x} in line {number} is none"
    return "it ends within a character"


def _separator(file: TextIO, path: Path) -> str:
    """Return what separates the cells of a file: the first sign that gives its header two columns, or a comma."""
    if path.suffix.lower() in TAB_SEPARATED:
        return "\t"
    first = next((line for line in file if line.strip()), "")
    file.seek(0)
    return next((sign for sign in ",;\t" if len(next(csv.reader([first], delimiter=sign))) > 1), ",") if first else ","


def _features(header: tuple[str, ...], label: str, columns: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the names of the columns that are features, after a look at all that header and settings say."""
    if not columns and label not in header and (numbers := _no_names(header)):
        raise ValueError(
            f"{path} must begin with a line that names its columns, but its first line holds the number {numbers[0]}: "
            "put names above it."
        )
    features = tuple(columns) or tuple(name for name in header if name != label)
    for name in features:
        if name not in header:
            raise ValueError(f"{path} has no column {shown(name)}{instead(name, header)}")
        if not name:
            raise ValueError(
                f"{path} must name every column, but the name of column {header.index(name) + 1} is empty: name it, or "
                "leave it out with columns = […]."
            )
    if label in features or len(set(features)) < len(features):
        raise ValueError(
            f"columns of {path} must be other columns than the label's, {shown(label)}, each of them once, got "
            f"{some(list(map(shown, features)))}."
        )
    if label not in header:
        check_no_label(label, [name for name in header if name not in columns], str(path))
    if not features:
        raise ValueError(f"{path} must have columns of numbers, but has none besides {shown(label)}.")
    return features


def _no_names(header: Sequence[str]) -> list[str]:
    """Return the numbers among the names of columns, but for those that count the columns."""
    counts = [{str(place), str(place + 1)} for place in range(len(header))]
    return [name for name, own in zip(header, counts, strict=True) if name not in own and not _fault(name)]


def _number(cell: str) -> float:
    """Return a cell as a number.

    Raises:
        ValueError: where it is none, not finite, or beyond the range of float32.
    """
    number = float(cell)
    if not abs(number) < BEYOND or "_" in cell:  # Python's own way to write thousands
        raise ValueError
    return number


def _fault(cell: str) -> str:
    """Say what a cell is that is no feature; nothing for one that is."""
    try:
        number = float(cell.replace("_", "x"))
    except ValueError:
        return "missing" if cell.strip().casefold() in MISSING else "text"
    if np.isnan(number):
        return "missing"
    if np.isinf(number) and "inf" in cell.casefold():
        return "infinity"
    return "" if abs(number) < BEYOND else "large"


def _first(column: str, cells: Sequence[tuple[int, str]]) -> str:
    """Name a column, count the faults in it and show the first."""
    line, cell = cells[0]
    return f"column {shown(column)} ({len(cells)}, the first in line {line}: {shown(cell)})"
