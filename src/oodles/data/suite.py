"""A suite: everything that training and a comparison read."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from oodles.data.augment import Augment
from oodles.data.decoded import sample
from oodles.data.features import Features
from oodles.data.image_set import ImageSet

HELD_OUT = "held-out"
"""The near set of :meth:`Suite.without_classes`."""
KNOWN = ("train", "validation", "test")
"""Sets of the known classes; no image may be in two of them."""
Shares = tuple[tuple[int, float], ...]
"""Of stretches of rows, one after the other: how many rows, and their share of what is drawn."""
ENOUGH = 2000
"""Rows from which mean and deviation are measured where images are decoded on demand."""
BLOCK = 2**20
"""Numbers of which mean and deviation are measured at once, since those of whole sets would take many times the memory
of the images."""


@dataclass(frozen=True)
class Suite:
    """The sets of one comparison, of images or of feature vectors; no row is in two, and all have the same shape.

    Args:
        name: its name in tables.
        train: in-distribution rows to train on, augmented.
        validation: in-distribution rows that settings, margins and thresholds come from.
        test: in-distribution rows to look at once.
        outliers: auxiliary rows of other kinds to train with, augmented like ``train``, where there are any.
        near: sets that resemble the known classes, to be told apart in testing.
        far: sets that do not.
        classes: names of the known classes.
        validation_outliers: rows of other kinds that settings may be chosen on, where there are any.
        mean: per channel, of images in [0, 1], or per feature; that of the training rows unless given.
        std: per channel or feature, likewise; 1 for one that never changes.
        resize: the shorter side of an image before its centre was cropped, where the suite says so.
        draft: whether JPEG files were decoded no larger than needed, see :func:`oodles.data.read_images`.
        outlier_shares: where some outliers shall be seen more often: for the first rows, the next and so on, how many
            there are and what share of the outliers that are trained on comes from them.
        features: how tables or texts became feature vectors, where rows are such vectors.
        notes: what a reader of a table must know about a set, by its name.
        imbalance: how many times as many rows the first class was left with for training as the last, where rows of the
            classes were left out for that.
        wild: rows without labels, as they come in use, some of them of other kinds, augmented like ``train``, where
            there are any.

    Raises:
        ValueError: for sets whose images differ in shape, shares that do not add up to the outliers or to 1, training
            images that are not finite, and another number of channels in ``mean`` or ``std``.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    outliers: ImageSet | None = None
    near: Mapping[str, ImageSet] = field(default_factory=dict)
    far: Mapping[str, ImageSet] = field(default_factory=dict)
    validation_outliers: ImageSet | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | None = None
    draft: bool = False
    outlier_shares: Shares = ()
    features: Features | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    imbalance: float | None = None
    wild: ImageSet | None = None

    def __post_init__(self) -> None:
        for name, images in self.sets().items():
            if images.images.shape[1:] != self.input_shape:
                raise ValueError(
                    f"all rows of a suite must have one shape, but those of {name} have {images.images.shape[1:]} "
                    f"and those of train {self.input_shape}."
                )
        if self.outliers is not None and self.outlier_shares:
            counts, shares = zip(*self.outlier_shares, strict=True)
            if sum(counts) != len(self.outliers) or min(counts) < 1 or abs(sum(shares) - 1) > 1e-6 or min(shares) <= 0:
                raise ValueError(
                    f"outlier_shares must be (rows, share) pairs of all {len(self.outliers)} outliers, with shares "
                    f"above 0 that add up to 1, got {self.outlier_shares}."
                )
        if not (self.mean and self.std):
            with np.errstate(invalid="ignore"):  # told in the next line
                mean, std = _statistics(self.train)
            if not np.isfinite(mean).all():
                raise ValueError("rows of train must be numbers, but some are NaN or infinite: leave them out.")
            object.__setattr__(self, "mean", self.mean or mean)
            object.__setattr__(self, "std", self.std or std)
        channels = self.input_shape[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                kind = "features" if self.vectors else "channels"
                raise ValueError(f"{name} must have one number for each of {channels} {kind}, got {len(values)}.")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image, or (F,) of every feature vector."""
        return self.train.images.shape[1:]

    @property
    def vectors(self) -> bool:
        """Tell whether its rows are feature vectors, and no images."""
        return len(self.input_shape) == 1

    @property
    def kind(self) -> Literal["images", "features", "texts"]:
        """What its rows are before they are numbers."""
        if not self.vectors:
            return "images"
        return "texts" if self.features is not None and self.features.encoder else "features"

    def sets(self) -> dict[str, ImageSet]:
        """Return every set there is: ``train``, ``validation``, ``test``, ``outliers``, ``near:NAME`` and so on."""
        own = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "outliers": self.outliers,
            "validation-outliers": self.validation_outliers,
            "wild": self.wild,
        }
        return {name: images for name, images in own.items() if images is not None} | self.ood_sets()

    @property
    def others(self) -> dict[str, ImageSet]:
        """Return the sets there are to train with besides known rows, by role: ``outliers`` and ``wild``."""
        sets = {"outliers": self.outliers, "wild": self.wild}
        return {role: images for role, images in sets.items() if images is not None}

    def ood_sets(self) -> dict[str, ImageSet]:
        """Return the sets to be told apart from the known classes, by ``near:NAME`` and ``far:NAME``."""
        near = {f"near:{name}": images for name, images in self.near.items()}
        return near | {f"far:{name}": images for name, images in self.far.items()}

    def without_classes(self, held: Collection[int]) -> "Suite":
        """Return a suite of the other classes, counted anew, to see how well those held out are told from them.

        No row of these is trained on; their validation rows are the near set ``held-out``. Validation rows of the other
        classes stand for test rows, too, so that these stay unseen. There is no other set; mean and standard deviation
        are those of all classes.
        """
        kept = [number for number in range(len(self.classes)) if number not in held]
        numbers = np.full(len(self.classes), -1)
        numbers[kept] = np.arange(len(kept))

        def known(images: ImageSet) -> ImageSet:
            rows = np.flatnonzero(numbers[images.labels] >= 0)
            return images.take(rows, numbers[images.labels[rows]])

        unknown = np.flatnonzero(numbers[self.validation.labels] < 0)
        validation = known(self.validation)
        return Suite(
            self.name,
            train=known(self.train),
            validation=validation,
            test=validation,
            classes=tuple(self.classes[number] for number in kept),
            near={HELD_OUT: self.validation.take(unknown, np.full(len(unknown), -1))},
            mean=self.mean,
            std=self.std,
            resize=self.resize,
            draft=self.draft,
            features=self.features,
        )

    def augmented(self, augment: Augment) -> "Suite":
        """Return the same suite with other random changes of training rows, outliers and wild rows."""
        others = {role: replace(images, augment=augment) for role, images in self.others.items()}
        train = replace(self.train, augment=augment)
        return replace(self, train=train, outliers=others.get("outliers"), wild=others.get("wild"))


def _statistics(train: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation per channel or feature, from every row or from enough of them."""
    images = train.images
    rows = None if isinstance(images, np.ndarray) else sample(len(images), ENOUGH)
    count, channels, sides = len(images) if rows is None else len(rows), images.shape[1], images.shape[2:]
    places = (0, *range(2, images.ndim))
    whole = images.dtype == np.uint8
    total, squares = np.zeros((2, channels), np.int64 if whole else np.float64)
    step = max(1, BLOCK // (channels * math.prod(sides)))
    for start in range(0, count, step):
        block = images[start : start + step] if rows is None else images[rows[start : start + step]]
        if whole:  # whole numbers are added up exactly
            total += block.sum(places, dtype=np.int64)
            squares += np.square(block, dtype=np.uint16).sum(places, dtype=np.int64)
        else:
            wide = block.astype(np.float64)
            total += wide.sum(places)
            squares += (wide**2).sum(places)
    pixels = count * math.prod(sides)
    if whole:
        sums = zip(total.tolist(), squares.tolist(), strict=True)  # Python's numbers, since products outgrow int64
        mean = total / (255 * pixels)
        variance = np.array([(pixels * square - one**2) / (255 * pixels) ** 2 for one, square in sums])
    else:
        mean = total / pixels
        variance = squares / pixels - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(np.where(variance > 1e-12, variance, 1.0)).tolist())
