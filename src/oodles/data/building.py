"""From a description to a suite: every source is read, rows are drawn, and all get one shape."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.data.augment import PLAIN, Augment
from oodles.data.cache import from_cache
from oodles.data.conversion import one_shape
from oodles.data.decoded import Decoded, convert, name_broken
from oodles.data.description import (
    TABLES,
    Description,
    augment_of,
    is_mixture,
    is_source,
    listed,
    rows_wanted,
    share_of,
    sources,
)
from oodles.data.features import Features, check_columns
from oodles.data.image_files import ENDINGS
from oodles.data.image_set import ImageSet
from oodles.data.names import composed, some
from oodles.data.overlaps import by_content
from oodles.data.preprocess import Fit
from oodles.data.raw import BrokenImages, RawImages, called, join
from oodles.data.sources import Source, read_source
from oodles.data.suite import KNOWN, Shares, Suite
from oodles.data.texts import encoded, encoder_named
from oodles.remarks import warn
from oodles.spelling import suggestion

OF_IMAGES = ("input_shape", "resize", "draft", "augment")
"""What can be said of images alone."""
TENTH = 0.1
"""The share of the training rows that validates by default."""


def build_suite(description: Description, seed: int, augment: Augment | None = None) -> Suite:
    """Build the suite of a description whose paths are absolute.

    Raises:
        FileNotFoundError: for images that are not there.
        ValueError: for what cannot be read, and labels or sizes that do not fit; files that are no images are named
            together.
    """
    _check_sources(description)
    try:
        return _built(description, seed, augment)
    except BrokenImages:
        files = [source for _, source in sources(description) if isinstance(source, str) or "dataset" not in source]
        name_broken(map(read_source, files))
        raise


def _built(description: Description, seed: int, augment: Augment | None) -> Suite:
    encode = None
    if "encoder" in description:
        encode = partial(encoded, encoder=encoder_named(description["encoder"]), cache=Path(description["cache"]))
    raw = read_source(description["train"], encode)
    given = tuple(map(composed, description.get("classes", ())))
    classes, by_name = _classes(raw, given), bool(raw.classes) and not given
    _labels(raw, classes, by_name)  # all of them, before any are left out
    if raw.vectors and (stated := [key for key in OF_IMAGES if key in description]):
        raise ValueError(f"{stated[0]} is said of images, and {raw.place} holds feature vectors: leave it out.")
    shape = tuple(description.get("input_shape") or one_shape(raw))
    fit = Fit(shape, description.get("resize"), description.get("draft", False))
    words = _words(description, raw)
    keep = partial(from_cache, folder=Path(description["cache"])) if "cache" in description else None
    augment = augment or augment_of(description) or (PLAIN if raw.vectors else Augment(shift=min(shape[1:]) // 8))

    def read(source: Source) -> RawImages:
        return check_columns(read_source(source, encode, words), raw.columns)

    def image_set(raw: RawImages, labels: NDArray[np.int64], augment: Augment = PLAIN) -> ImageSet:
        return ImageSet(convert(raw, fit, keep), labels, augment, seed, raw.names)

    def known(raw: RawImages, augment: Augment = PLAIN) -> ImageSet:
        return image_set(raw, _labels(raw, classes, by_name), augment)

    def unknown(raw: RawImages, augment: Augment = PLAIN) -> ImageSet:
        return image_set(raw, np.full(len(raw.names), -1), augment)

    def tested(source: Source) -> ImageSet:
        raw = read(source)
        _tell_lacking(raw, _labels(raw, classes, by_name), classes)  # before rows are drawn
        return known(_split_rows(raw, source, None, "")[0])

    def others(table: str) -> dict[str, ImageSet]:
        return {name: unknown(draw(source)) for name, source in description.get(table, {}).items()}

    def draw(source: Source) -> RawImages:
        return _split_rows(read(source), source, None, "")[0]

    source, held = description["train"], description.get("validation", TENTH)
    if "imbalance" in description:  # before rows are held back, since who has few of a class has few to validate with
        raw = _thinned(raw, _labels(raw, classes, by_name), description["imbalance"])
    train, validation = _split_rows(raw, source, held, "validation")
    wild, train = _wild(description.get("wild"), train, read)
    _check_left(train, raw, _labels(train, classes, by_name), classes)
    outliers, validation_outliers, shares = _outliers(description, read)
    suite = Suite(
        name=description["name"],
        train=known(train, augment),
        validation=known(draw(description["validation"]) if validation is None else validation),
        test=tested(description["test"]),
        classes=classes,
        outliers=None if outliers is None else unknown(outliers, augment),
        validation_outliers=None if validation_outliers is None else unknown(validation_outliers),
        near=others("near"),
        far=others("far"),
        mean=tuple(map(float, description.get("mean", ()))),
        std=tuple(map(float, description.get("std", ()))),
        resize=fit.resize,
        draft=fit.draft,
        outlier_shares=shares,
        imbalance=description.get("imbalance"),
        features=_features(description, raw) if raw.vectors else None,
        notes={**_tell_wild(description), **description.get("notes", {})},
        wild=None if wild is None else unknown(wild, augment),
    )
    _check_images(suite)
    return suite


def _check_sources(description: Description) -> None:
    """Refuse the same place for two of the sets that must not share images, whatever its rows and labels."""
    places = [(name, _place(source)) for name, source in sources(description)]
    apart = [*combinations(KNOWN, 2), *((name, "wild") for name in (*KNOWN, "outliers"))]
    for (one, place), (other, same) in combinations(places, 2):
        if place != same or not {(one, other), (other, one)} & set(apart):
            continue
        one, other = sorted((one, other), key=[*KNOWN, "outliers", "wild"].index)
        advice = {
            "validation": "say how many rows of train validate",
            "wild": "wild rows are known and unknown ones together, see { known = …, unknown = …, share = … }",
        }.get(other, "name other rows")
        there = " ".join(map(str, place.values()))
        raise ValueError(f"{one} and {other} must hold different rows, but both are {there}: {advice}.")


def _place(source: Source) -> dict[str, Any]:
    """Return what a source says of the place of its rows."""
    table = {"path": source} if isinstance(source, str) else source
    place = {key: value for key, value in table.items() if key not in ("rows", "labels")}
    return {**place, "path": Path(table["path"]).resolve()} if "path" in table else place


def _tell_wild(description: Description) -> dict[str, str]:
    """Warn where wild rows are of a set that is tested on; return the notes on such sets."""
    wild = [_place(source) for name, source in sources(description) if name == "wild"]
    tested = [name for table in TABLES for name, source in description.get(table, {}).items() if _place(source) in wild]
    for name in tested:
        warn(
            f"wild holds rows of {name}, which is a test set: results on it tell of a kind that training has seen, "
            "without labels."
        )
    return dict.fromkeys(tested, "same kind as the wild rows")


def _check_images(suite: Suite) -> None:
    """Refuse copies of a set; sets that share some of their images are found by ``check_suite``."""
    rows = called(suite.vectors)
    for one, other in combinations(KNOWN, 2):
        images, others = suite.sets()[one].images, suite.sets()[other].images
        if images.shape != others.shape or not np.array_equal(images[0], others[0]):
            continue
        if isinstance(images, Decoded):
            same = isinstance(others, Decoded) and images.fingerprint() == others.fingerprint()
        else:
            same = isinstance(others, np.ndarray) and np.array_equal(images, others)
        if same:
            raise ValueError(f"{one} and {other} must hold different {rows}, but hold the same: name other {rows}.")
    learnt = [suite.train.images, suite.validation.images]
    copied = sum(map(len, learnt)) == len(suite.test) and _pictures(learnt)
    if copied and copied == _pictures([suite.test.images]):
        raise ValueError(
            f"train and test must hold different {rows}, but train with what validates holds the same as test: "
            f"name other {rows}."
        )


def _pictures(sets: Sequence[NDArray[Any] | Decoded]) -> set[bytes] | None:
    """Return the different images of sets in memory, for comparing; nothing where one is not in memory."""
    return None if any(isinstance(images, Decoded) for images in sets) else set().union(*map(by_content, sets))


def _features(description: Description, train: RawImages) -> Features:
    """Say how the vectors of a description are made."""
    encoder, cache = description.get("encoder", ""), description.get("cache", "")
    return Features(encoder=encoder, cache=cache, **_words(description, train))


def _words(description: Description, train: RawImages) -> dict[str, Any]:
    """Return the words by which train is read, for other sets."""
    source = description["train"]
    said = {key: source[key] for key in ("text", "label") if key in source} if isinstance(source, Mapping) else {}
    return {**said, "columns": train.columns}


def _outliers(
    description: Description, read: Callable[[Source], RawImages]
) -> tuple[RawImages | None, RawImages | None, Shares]:
    """Read the outliers, those that validate, and the shares of the sources, those without one in the first place."""
    held = description.get("validation_outliers")
    stated = listed(held) if held is not None and is_source(held) else []
    given = [_split_rows(read(source), source, None, "")[0] for source in stated]
    validation = join(given) if given else None
    if "outliers" not in description:
        return None, validation, ()
    sources = sorted(listed(description["outliers"]), key=lambda source: share_of(source) is not None)
    split = [_split_rows(read(source), source, held, "validation_outliers") for source in sources]
    trained, kept = [raw for raw, _ in split], [raw for _, raw in split if raw is not None]
    parts = [(len(raw.names), share) for raw, share in zip(trained, map(share_of, sources), strict=True) if share]
    rest = sum(len(raw.names) for raw in trained) - sum(rows for rows, _ in parts)
    first = [(rest, 1 - sum(share for _, share in parts))] if rest else []
    return join(trained), join(kept) if kept else validation, tuple([*first, *parts]) if parts else ()


def _wild(given: Any, train: RawImages, read: Callable[[Source], RawImages]) -> tuple[RawImages | None, RawImages]:
    """Return the wild rows, and the training rows without those that are among them."""
    if given is None:
        return None, train
    if not is_mixture(given):
        return _split_rows(read(given), given, None, "")[0], train
    left, known = _split_rows(train, "", given["known"], "wild.known")
    source, share = given["unknown"], given["share"]
    unknown = _split_rows(read(source), source, None, "")[0]
    count = round(len(known.names) * share / (1 - share)) if known is not None else 0
    if known is None or not 1 <= count <= len(unknown.names):
        raise ValueError(
            f"wild must have a share of {share:g} of unknown rows, which are {count} beside its known ones, and "
            f"{unknown.place} has {len(unknown.names)}: give other numbers of rows, or another share."
        )
    return join([known, unknown.take(np.sort(_order(unknown)[:count]))]), left


def _split_rows(raw: RawImages, source: Source, held: Any, held_by: str) -> tuple[RawImages, RawImages | None]:
    """Return the rows that a source asks for, and those held back first where ``held`` is a number or share."""
    wanted = source.get("rows") if isinstance(source, Mapping) else None
    holds = isinstance(held, int | float)
    if wanted is None and not holds:
        return raw, None
    rows = _order(raw)
    count = rows_wanted(held, len(rows), len(rows) - 1, f"{held_by} of {raw.place}") if holds else 0
    left = len(rows) - count
    taken = f" and {held_by} takes {count}" if count else ""
    end = count + (left if wanted is None else rows_wanted(wanted, len(rows), left, f"rows of {raw.place}", taken))
    return raw.take(np.sort(rows[count:end])), raw.take(np.sort(rows[:count])) if holds else None


def _thinned(raw: RawImages, labels: NDArray[np.int64], imbalance: float) -> RawImages:
    """Return as many rows as can be of which class c of C has n·imbalance^(−c/(C−1)), always the same ones."""
    there = np.bincount(labels)
    profile = float(imbalance) ** (-np.arange(len(there)) / (len(there) - 1))
    wanted = np.rint((there / profile).min() * profile).astype(int).clip(1)
    rows = np.random.default_rng(0).permutation(len(labels))
    kept = [rows[labels[rows] == label][:count] for label, count in enumerate(wanted)]
    return raw.take(np.sort(np.concatenate(kept)))


def _order(raw: RawImages) -> NDArray[np.int64]:
    """Return a random order of rows, always the same, in which every stretch holds each class in its share."""
    rows = np.random.default_rng(0).permutation(len(raw.names))
    if raw.labels is None:
        return rows
    _, numbers, counts = np.unique(raw.labels[rows], return_inverse=True, return_counts=True)
    by_class = np.argsort(numbers, kind="stable")
    ranks = np.empty(len(rows))
    ranks[by_class] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows[np.argsort((ranks + 0.5) / counts[numbers], kind="stable")]


def _classes(train: RawImages, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the known classes; refuse classes without a row to train on."""
    labels = _told(train)
    named, rows = given or train.classes, called(train.vectors)
    lacking = [name for name in named if name not in train.classes]
    if train.classes and lacking:
        raise ValueError(f"every class must have {rows} in {train.place}, but {some(lacking)} has none: check names.")
    count = len(named) or int(labels.max()) + 1
    missing = sorted(set(range(min(count, len(labels) + 1))) - set(labels.tolist()))
    if missing:
        first = train.classes[missing[0]] if train.classes else missing[0]
        raise ValueError(
            f"every class must have {rows} in {train.place}, class {first} has none: number classes from 0 up."
        )
    if count < 2:
        raise ValueError(f"{train.place} must hold at least 2 classes, got {count}.")
    if len(set(named)) < len(named):
        raise ValueError(f"classes in {train.place} must have different names, got {', '.join(named)}.")
    return named or tuple(str(index) for index in range(count))


def _told(raw: RawImages) -> NDArray[np.int64]:
    """Return labels; refuse a source that does not tell classes, and one with class folders that hold no images."""
    if raw.labels is None:
        beside = [name for name in raw.names if "/" not in name] if raw.classes else []
        lie = f", while {some(beside)} {'lies' if len(beside) == 1 else 'lie'} beside them" if beside else ""
        raise ValueError(f"{raw.place} must tell classes: give labels, or one folder per class{lie}.")
    if raw.without:
        named = some([f"{name} ({held or 'empty'})" for name, held in raw.without.items()])
        raise ValueError(
            f"every class folder in {raw.place} must hold images, unlike {named}: add images "
            f"({', '.join(ENDINGS)}), or take the folder away."
        )
    return raw.labels


def _tell_lacking(test: RawImages, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Warn where a test set that names its classes has nothing of one that is trained on."""
    there = set(labels.tolist())
    lacking = [name for number, name in enumerate(classes) if number not in there]
    if test.classes and lacking:
        warn(f"{test.place} has no {called(test.vectors)} of {some(lacking)}, which train has.")


def _check_left(train: RawImages, raw: RawImages, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Refuse to train where a class is left without rows."""
    missing = sorted(set(range(len(classes))) - set(labels.tolist()))
    if missing:
        raise ValueError(
            f"every class must have rows to train on, but class {classes[missing[0]]!r} has none among the "
            f"{len(train.names)} of {len(raw.names)} that are left of {raw.place}: take more rows for train, "
            "or fewer for validation."
        )


def _labels(raw: RawImages, classes: tuple[str, ...], by_name: bool) -> NDArray[np.int64]:
    """Return class ids in the order of ``classes``; bare numbers are names with ``by_name``, else places in it."""
    labels = _told(raw)
    if by_name and not raw.classes:
        return _by_name(labels, classes, raw.place)
    if strange := sorted(set(raw.classes) - set(classes)):
        hint = suggestion(strange[0], classes, f"train has {some(classes)}.")
        raise ValueError(f"classes in {raw.place} must be those of train, got {some(list(map(repr, strange)))}{hint}")
    own = len(raw.classes or classes)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= own:
        raise ValueError(f"labels in {raw.place} must be 0 to {own - 1}, got {low if low < 0 else high}.")
    places = np.array([classes.index(name) for name in raw.classes or classes], dtype=np.int64)
    return places[labels]


def _by_name(labels: NDArray[np.int64], classes: tuple[str, ...], place: str) -> NDArray[np.int64]:
    """Return the places of classes that bare numbers name, whatever the order of these."""
    places = {int(name): index for index, name in enumerate(classes) if name.isdecimal()}
    if len(places) < len(classes):
        raise ValueError(
            f"labels in {place} must have names, as the classes of train do ({classes[0]!r}, …): give one folder per "
            "class or an array called classes, or say classes = […] in a suite file, whose order labels then count."
        )
    if strange := sorted(set(labels.tolist()) - set(places)):
        raise ValueError(f"labels in {place} must be numbers of train's classes, got {strange[0]}.")
    return np.array([places[label] for label in labels.tolist()], dtype=np.int64)
