"""What was found in a pool as one HTML file with pictures, which needs no network."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from oodles import __version__
from oodles.comparing.pictures import as_png
from oodles.data import ImageSet
from oodles.data.suite_check import as_tile
from oodles.screening.found import PoolCheck

SHOWN = 24
"""Copies that are shown."""


class Shown(NamedTuple):
    """A row of a pool or of a suite on a page."""

    name: str
    picture: str
    """A data URI, empty for what is no image."""
    about: str = ""


def render(checked: PoolCheck) -> str:
    """Write the page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        checked=checked,
        cells={name: checked.measured.cells(name) for name in checked.measured.figures},
        copies=_copies(checked),
        taken=_taken(checked),
        version=__version__,
    )


def _copies(checked: PoolCheck) -> list[tuple[Shown, Shown]]:
    """Return copies beside their originals, those first that are not the same to the last pixel."""
    ordered = checked.copies[np.argsort(checked.exact[checked.copies], kind="stable")]
    pairs = []
    for row in ordered[:SHOWN].tolist():
        name, number = checked.reference.place(int(checked.matches[row]))
        about = "the same" if checked.exact[row] else "nearly the same"
        pairs.append((_of_pool(checked, row, about), _of_set(checked.reference.sets[name], number, name)))
    return pairs


def _taken(checked: PoolCheck) -> list[tuple[Shown, list[Shown]]]:
    """Return the rows that are most surely taken for known ones, beside their nearest training rows."""
    if checked.taken is None:
        return []
    train, classes = checked.suite.train, checked.suite.classes
    shown = []
    for place, numbers in enumerate(checked.taken.neighbours.tolist()):
        about = f"taken for {checked.taken.classes[place]}, {checked.taken.scores[place]:.3g}"
        beside = [_of_set(train, number, classes[train.labels[number]]) for number in numbers]
        shown.append((_of_pool(checked, int(checked.taken.rows[place]), about), beside))
    return shown


def _of_pool(checked: PoolCheck, row: int, about: str) -> Shown:
    return Shown(checked.pool.names[row], _picture(checked.pool.read([row]).pixels[0]), about)


def _of_set(rows: ImageSet, number: int, about: str) -> Shown:
    return Shown(rows.names[number] if rows.names else str(number), _picture(rows.images[number]), about)


def _picture(row: NDArray[Any]) -> str:
    return as_png(np.moveaxis(as_tile(row), 2, 0)) if row.ndim == 3 else ""
