"""From a description to a suite: reading every source, drawing rows, one shape for all."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.data.conversion import one_shape
from oodles.data.decoded import Decoded, converted
from oodles.data.description import Description, augment_of, is_source, rows_wanted, sources
from oodles.data.found import Found
from oodles.data.image_set import PLAIN, Augment, ImageSet
from oodles.data.sources import Source, read_source
from oodles.data.suite import KNOWN, Suite

TENTH = 0.1
"""Share of the training rows that validates where nothing else is said."""


def build_suite(description: Description, seed: int, augment: Augment | None = None) -> Suite:
    """The suite of a description whose paths are absolute.

    Raises:
        FileNotFoundError: for images that are not there.
        ValueError: for what cannot be read, and labels or sizes that do not fit.
    """
    _check_sources(description)
    found = read_source(description["train"])
    given = tuple(description.get("classes", ()))
    classes, by_name = _classes(found, given), bool(found.classes) and not given
    _labels(found, classes, by_name)  # all of them, before any are left out
    channels, height, width = description.get("input_shape") or one_shape(found)
    shape = (channels, height, width)
    augment = augment or augment_of(description) or Augment(shift=min(shape[1:]) // 8)

    def image_set(found: Found, labels: NDArray[np.int64], augment: Augment = PLAIN) -> ImageSet:
        return ImageSet(converted(found, shape, description.get("resize")), labels, augment, seed, found.names)

    def known(found: Found, augment: Augment = PLAIN) -> ImageSet:
        return image_set(found, _labels(found, classes, by_name), augment)

    def unknown(found: Found, augment: Augment = PLAIN) -> ImageSet:
        return image_set(found, np.full(len(found.names), -1), augment)

    def others(table: str) -> dict[str, ImageSet]:
        return {name: unknown(_drawn(source)) for name, source in description.get(table, {}).items()}

    source, held = description["train"], description.get("validation", TENTH)
    train, validation = _parted(found, source, held, "validation")
    _check_left(train, found, _labels(train, classes, by_name), classes)
    source, held = description.get("outliers"), description.get("validation_outliers")
    outliers, validation_outliers = (
        (None, None) if source is None else _parted(read_source(source), source, held, "validation_outliers")
    )
    if held is not None and is_source(held):
        validation_outliers = _drawn(held)
    suite = Suite(
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
    _check_images(suite)
    return suite


def _check_sources(description: Description) -> None:
    """Refuses the same place for two of the sets that must not share images; rows and labels of it do not matter."""
    places = {}
    for name, source in sources(description):
        table = {"path": source} if isinstance(source, str) else source
        places[name] = {key: value for key, value in table.items() if key not in ("rows", "labels")}
        if "path" in table:
            places[name]["path"] = Path(table["path"]).resolve()
    for one, other in combinations([name for name in KNOWN if name in places], 2):
        if places[one] == places[other]:
            place = " ".join(map(str, places[one].values()))
            advice = "say how many rows of train validate" if other == "validation" else "name other images"
            raise ValueError(f"{one} and {other} must hold different images, but both are {place}: {advice}.")


def _check_images(suite: Suite) -> None:
    """Refuses copies; sets that share some of their images are found by ``check_suite``."""
    for one, other in combinations(KNOWN, 2):
        images, others = suite.sets()[one].images, suite.sets()[other].images
        if images.shape != others.shape or not np.array_equal(images[0], others[0]):
            continue
        if isinstance(images, Decoded):
            same = isinstance(others, Decoded) and images.fingerprint() == others.fingerprint()
        else:
            same = isinstance(others, np.ndarray) and np.array_equal(images, others)
        if same:
            raise ValueError(f"{one} and {other} must hold different images, but hold the same: name other images.")
    learnt = [suite.train.images, suite.validation.images]
    copied = sum(map(len, learnt)) == len(suite.test) and _pictures(learnt)
    if copied and copied == _pictures([suite.test.images]):
        raise ValueError(
            "train and test must hold different images, but train with what validates holds the same as test: "
            "name other images."
        )


def _pictures(sets: Sequence[NDArray[Any] | Decoded]) -> set[bytes] | None:
    """What the images are, whatever their order; nothing where they are not in memory."""
    arrays = [images for images in sets if isinstance(images, np.ndarray)]
    return {image.tobytes() for images in arrays for image in images} if len(arrays) == len(sets) else None


def _drawn(source: Source) -> Found:
    """The rows of a source that are asked for."""
    return _parted(read_source(source), source, None, "")[0]


def _parted(found: Found, source: Source, held: Any, held_by: str) -> tuple[Found, Found | None]:
    """The rows of a source that are asked for, and those that are held back first where ``held`` is a number."""
    wanted = source.get("rows") if isinstance(source, Mapping) else None
    holds = isinstance(held, int | float)
    if wanted is None and not holds:
        return found, None
    rows = _order(found)
    count = rows_wanted(held, len(rows), len(rows) - 1, f"{held_by} of {found.place}") if holds else 0
    left = len(rows) - count
    taken = f" and {held_by} takes {count}" if count else ""
    end = count + (left if wanted is None else rows_wanted(wanted, len(rows), left, f"rows of {found.place}", taken))
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


def _check_left(train: Found, found: Found, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Refuses to train where a class is left with nothing."""
    missing = sorted(set(range(len(classes))) - set(labels.tolist()))
    if missing:
        raise ValueError(
            f"every class must have rows to train on, but class {classes[missing[0]]!r} has none among the "
            f"{len(train.names)} of {len(found.names)} that are left of {found.place}: take more rows for train, "
            "or fewer for validation."
        )


def _labels(found: Found, classes: tuple[str, ...], by_name: bool) -> NDArray[np.int64]:
    """Class ids in the order of ``classes``; with ``by_name`` a bare number is a name, and else a place among them."""
    if found.labels is None:
        raise ValueError(f"{found.place} must tell classes: give labels, or one folder per class.")
    if by_name and not found.classes:
        return _by_name(found.labels, classes, found.place)
    if strange := sorted(set(found.classes) - set(classes)):
        raise ValueError(f"classes in {found.place} must be those of train, got {strange[0]!r}.")
    own = len(found.classes or classes)
    low, high = int(found.labels.min()), int(found.labels.max())
    if low < 0 or high >= own:
        raise ValueError(f"labels in {found.place} must be 0 to {own - 1}, got {low if low < 0 else high}.")
    places = np.array([classes.index(name) for name in found.classes or classes], dtype=np.int64)
    return places[found.labels]


def _by_name(labels: NDArray[np.int64], classes: tuple[str, ...], place: str) -> NDArray[np.int64]:
    """Where among the classes those are that bare numbers name, whatever their order."""
    places = {int(name): index for index, name in enumerate(classes) if name.isdecimal()}
    if len(places) < len(classes):
        raise ValueError(
            f"labels in {place} must have names, as the classes of train do ({classes[0]!r}, …): give one folder per "
            "class or an array called classes, or say classes = […] in a suite file, whose order labels then count."
        )
    if strange := sorted(set(labels.tolist()) - set(places)):
        raise ValueError(f"labels in {place} must be numbers of train's classes, got {strange[0]}.")
    return np.array([places[label] for label in labels.tolist()], dtype=np.int64)
