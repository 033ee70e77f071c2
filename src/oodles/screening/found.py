"""What was found in a pool of outliers: in words, as plain values, and as the list of rows that remain."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.data import Suite
from oodles.data.likeness import NONE, Reference
from oodles.data.names import some
from oodles.data.raw import called
from oodles.data.sharpness import Measured
from oodles.data.suite_check import columns
from oodles.files import write_text
from oodles.remarks import warn
from oodles.screening.pool import Pool

POOL = "pool"
"""What a pool is called among the sets of a suite."""


@dataclass(frozen=True, eq=False)
class Taken:
    """Rows of a pool that a detector takes for known ones.

    Args:
        rows: (n,) their numbers, the surest first.
        scores: (n,) their outlier scores.
        classes: the predicted classes.
        rule: what is accepted, in words.
        accepts: the share of known rows that is accepted.
        neighbours: of the first rows, the numbers of the nearest training rows in the classifier's features.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: tuple[str, ...]
    rule: str
    accepts: float
    neighbours: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PoolCheck:
    """What was found in a pool; made by :func:`check_outliers`.

    Args:
        pool: the rows that were looked at.
        suite: the suite that shall be trained on.
        reference: the suite's rows that the pool's were compared with.
        matches: (N,) of each row of the pool, the row of ``reference`` that it is or is a copy of, or −1.
        exact: (N,) whether it is the same to the last pixel, number or letter.
        repeats: (N,) whether an earlier row of the pool is the same.
        broken: what is wrong with files that cannot be read, by the row.
        measured: figures by which the pool and the suite's sets may be told apart without any class.
        taken: rows that a run takes for known ones, where one was given.
    """

    pool: Pool
    suite: Suite
    reference: Reference
    matches: NDArray[np.int64]
    exact: NDArray[np.bool_]
    repeats: NDArray[np.bool_]
    broken: dict[int, str]
    measured: Measured
    taken: Taken | None = None

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """Return the rows that are in the suite, or nearly."""
        return np.flatnonzero(self.matches != NONE)

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Return the rows that remain when all that were found are left out."""
        left_out = (self.matches != NONE) | self.repeats
        left_out[list(self.broken)] = True
        if self.taken is not None:
            left_out[self.taken.rows] = True
        return np.flatnonzero(~left_out)

    def original(self, row: int) -> tuple[str, str]:
        """Return the set and the name of the suite's row that a row of the pool is a copy of."""
        name, number = self.reference.place(int(self.matches[row]))
        names = self.reference.sets[name].names
        return name, names[number] if names else str(number)

    def write_list(self, path: str | Path) -> None:
        """Write the rows that remain, one on each line: the names of files, or the numbers of rows in a file.

        It is a ``list`` of a suite file, beside ``images``, the pool. Where no row remains, none is written.
        """
        if not len(self.kept):
            warn(f"{path} is not written, since no row of {self.pool.path} remains.")
            return
        files = self.pool.files
        lines = [str(row) if files is None else files.names[row] for row in self.kept.tolist()]
        listed = [line for line in lines if _can_be_listed(line)]
        if more := len(lines) - len(listed):
            warn(f"{path} leaves out {more} files whose names no list can hold: rename them.")
        write_text(Path(path), "".join(f"{line}\n" for line in listed))

    def usage(self, path: str | Path) -> str:
        """Say how a suite file names the list that was written, see :meth:`write_list`."""
        listed, images = (
            json.dumps(str(Path(place).absolute()), ensure_ascii=False) for place in (path, self.pool.path)
        )
        return f"In a suite file: outliers = {{ list = {listed}, images = {images} }}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        names = self.pool.names
        copies = [(row, *self.original(row)) for row in self.copies.tolist()]
        document: dict[str, Any] = {
            "pool": str(self.pool.path),
            "data": self.suite.name,
            "rows": len(self.pool),
            "kept": len(self.kept),
            "copies": [
                {"row": names[row], "set": of, "original": original, "exact": bool(self.exact[row])}
                for row, of, original in copies
            ],
            "repeats": [names[row] for row in np.flatnonzero(self.repeats).tolist()],
            "broken": {names[row]: reason for row, reason in self.broken.items()},
            "figures": self.measured.as_dict(),
        }
        if self.taken is not None:
            each = zip(self.taken.rows.tolist(), self.taken.classes, self.taken.scores.tolist(), strict=True)
            taken = [{"row": names[row], "class": name, "score": score} for row, name, score in each]
            document["taken"] = {"rule": self.taken.rule, "accepts": self.taken.accepts, "rows": taken}
        return document

    def __str__(self) -> str:
        lines = [f"{self.pool.path}: {len(self.pool):,} {self.called(len(self.pool))}, beside {self.suite.name}", ""]
        if self.measured.names:
            sizes = {POOL: len(self.pool)} | {name: len(rows) for name, rows in self.suite.sets().items()}
            table = [(name, f"{size:,}", *self.measured.cells(name)) for name, size in sizes.items()]
            lines += [*columns([("set", "images", *self.measured.names), *table]), "", *self.measured.in_words(), ""]
        return "\n".join([*lines, *self.sentences()])

    def sentences(self) -> list[str]:
        """Say what was found in the rows, a line for each kind."""
        names = self.pool.names
        lines = [f"{self._count(len(self.broken))} cannot be read: {some([names[row] for row in self.broken])}."]
        lines *= bool(self.broken)
        for name, rows in self.by_set().items():
            nearly = int((~self.exact[rows]).sum())
            pairs = [f"{names[row]} = {self.original(row)[1]}" for row in rows.tolist()]
            how = f", {nearly} of them nearly" if nearly else ""
            lines.append(f"{self._count(len(rows))} {_is(len(rows))} in {name} too{how}: {some(pairs)}.")
        if count := int(self.repeats.sum()):
            again = [names[row] for row in np.flatnonzero(self.repeats).tolist()]
            lines.append(
                f"{self._count(count)} {_is(count)} there more than once, of which the first is kept: {some(again)}."
            )
        if self.taken is not None:
            lines.append(self._taken_in_words(self.taken))
        if not (len(self.copies) or self.repeats.any()):
            lines.append(f"No {self.called(1)} is in the suite too, or there twice.")
        return [*lines, f"{len(self.kept):,} of {self._count(len(self.pool))} remain."]

    def by_set(self) -> dict[str, NDArray[np.int64]]:
        """Return the copies by the set of the suite that they are in."""
        of = np.array([self.original(row)[0] for row in self.copies.tolist()])
        return {name: rows for name in self.reference.sets if len(rows := self.copies[of == name])}

    def called(self, count: int) -> str:
        """Return what rows are called in sentences."""
        return called(self.suite.vectors, count)

    def _count(self, count: int) -> str:
        return f"{count:,} {self.called(count)}"

    def _taken_in_words(self, taken: Taken) -> str:
        share = len(taken.rows) / max(1, len(self.pool) - len(self.broken))
        return (
            f"{self._count(len(taken.rows))} ({100 * share:.1f} %) {_is(len(taken.rows))} taken for known classes: "
            f"{taken.rule}, which accepts {100 * taken.accepts:g} % of known rows. Hard outliers are among them: look "
            "before you leave them out."
        )


def _can_be_listed(name: str) -> bool:
    """Say whether a line of UTF-8 can hold a file's name."""
    return name.splitlines() == [name.strip()] and name.isprintable()


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
