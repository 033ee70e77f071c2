"""From a description to a suite: reading every source, drawing rows, one shape for all."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.data.conversion import one_shape
from oodles.data.decoded import converted
from oodles.data.description import Description, augment_of, is_source, rows_wanted
from oodles.data.found import Found
from oodles.data.image_set import PLAIN, Augment, ImageSet
from oodles.data.sources import Source, read_source
from oodles.data.suite import Suite

TENTH = 0.1
"""Share of the training rows that validates where nothing else is said."""


def build_suite(description: Description, seed: int, augment: Augment | None = None) -> Suite:
    """The suite of a description whose paths are absolute.

    Raises:
        FileNotFoundError: for images that are not there.
        ValueError: for what cannot be read, and labels or sizes that do not fit.
    """
    found = read_source(description["train"])
    classes = _classes(found, tuple(description.get("classes", ())))
    _labels(found, classes)  # all of them, before any are left out
    channels, height, width = description.get("input_shape") or one_shape(found)
    shape = (channels, height, width)
    augment = augment or augment_of(description) or Augment(shift=min(shape[1:]) // 8)

    def image_set(found: Found, labels: NDArray[np.int64], augment: Augment = PLAIN) -> ImageSet:
        return ImageSet(converted(found, shape, description.get("resize")), labels, augment, seed, found.names)

    def known(found: Found, augment: Augment = PLAIN) -> ImageSet:
        return image_set(found, _labels(found, classes), augment)

    def unknown(found: Found, augment: Augment = PLAIN) -> ImageSet:
        return image_set(found, np.full(len(found.names), -1), augment)

    def others(table: str) -> dict[str, ImageSet]:
        return {name: unknown(_drawn(source)) for name, source in description.get(table, {}).items()}

    source, held = description["train"], description.get("validation", TENTH)
    train, validation = _parted(found, source, held, "validation")
    _classes(train, classes)
    source, held = description.get("outliers"), description.get("validation_outliers")
    outliers, validation_outliers = (
        (None, None) if source is None else _parted(read_source(source), source, held, "validation_outliers")
    )
    if held is not None and is_source(held):
        validation_outliers = _drawn(held)
    return Suite(
        name=description["name"],
        train=known(train, augment),
        validation=known(_drawn(description["validation"]) if validation is None else validation),
        test=known(_drawn(description["test"])),
        classes=classes,
        outliers=None if outliers is None else unknown(outliers, augment),
        validation_outliers=None if validation_outliers is None else unknown(validation_outliers),
        near=others("near"),
        far=others("far"),
        mean=tuple(map(float, description.get("mean", ()))),
        std=tuple(map(float, description.get("std", ()))),
        resize=description.get("resize"),
        notes=dict(description.get("notes", {})),
    )


def _drawn(source: Source) -> Found:
    """The rows of a source that are asked for."""
    return _parted(read_source(source), source, None, "")[0]


def _parted(found: Found, source: Source, held: Any, place: str) -> tuple[Found, Found | None]:
    """The rows of a source that are asked for, and those that are held back first where ``held`` is a number."""
    wanted = source.get("rows") if isinstance(source, Mapping) else None
    holds = isinstance(held, int | float)
    if wanted is None and not holds:
        return found, None
    rows, place = _order(found), f"{place} of {found.place}"
    count = rows_wanted(held, len(rows), len(rows) - 1, place) if holds else 0
    left = len(rows) - count
    end = len(rows) if wanted is None else count + rows_wanted(wanted, len(rows), left, f"rows of {found.place}")
    return found.chosen(np.sort(rows[count:end])), found.chosen(np.sort(rows[:count])) if holds else None


def _order(found: Found) -> NDArray[np.int64]:
    """The same random order of rows each time, in which every stretch holds each class in its share."""
    rows = np.random.default_rng(0).permutation(len(found.names))
    if found.labels is None:
        return rows
    _, numbers, counts = np.unique(found.labels[rows], return_inverse=True, return_counts=True)
    by_class = np.argsort(numbers, kind="stable")
    ranks = np.empty(len(rows))
    ranks[by_class] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows[np.argsort((ranks + 0.5) / counts[numbers], kind="stable")]


def _classes(train: Found, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the known classes, of which each has at least one row to train on."""
    if train.labels is None:
        raise ValueError(f"{train.place} must tell classes: give labels, or one folder per class.")
    named = given or train.classes
    count = len(named) or int(train.labels.max()) + 1
    missing = sorted(set(range(min(count, len(train.labels) + 1))) - set(train.labels.tolist()))
    if missing:
        raise ValueError(
            f"every class must have images in {train.place}, class {missing[0]} has none: number classes from 0 up."
        )
    if count < 2:
        raise ValueError(f"{train.place} must hold at least 2 classes, got {count}.")
    if len(set(named)) < len(named):
        raise ValueError(f"classes in {train.place} must have different names, got {', '.join(named)}.")
    return named or tuple(str(index) for index in range(count))


def _labels(found: Found, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Class ids in the order of ``classes``."""
    if found.labels is None:
        raise ValueError(f"{found.place} must tell classes: give labels, or one folder per class.")
    if strange := sorted(set(found.classes) - set(classes)):
        raise ValueError(f"classes in {found.place} must be those of train, got {strange[0]!r}.")
    own = len(found.classes or classes)
    low, high = int(found.labels.min()), int(found.labels.max())
    if low < 0 or high >= own:
        raise ValueError(f"labels in {found.place} must be 0 to {own - 1}, got {low if low < 0 else high}.")
    places = np.array([classes.index(name) for name in found.classes or classes], dtype=np.int64)
    return places[found.labels]
