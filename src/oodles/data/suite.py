"""A suite: everything that training and a comparison read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from oodles.data.image_set import Augment, ImageSet


@dataclass(frozen=True)
class Suite:
    """The sets of one comparison; no image is in two of them, and all have the same shape.

    Args:
        name: how tables call it.
        train: in-distribution rows to train on, augmented.
        validation: in-distribution rows that settings, margins and thresholds come from.
        test: in-distribution rows to look at once.
        outliers: auxiliary rows of other kinds to train with, augmented like ``train``, where there are any.
        near: sets that resemble the known classes, to be told apart in testing.
        far: sets that do not.
        classes: names of the known classes.
        notes: what a reader of a table must know about a set, by its name.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    outliers: ImageSet | None = None
    near: Mapping[str, ImageSet] = field(default_factory=dict)
    far: Mapping[str, ImageSet] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of the training images in [0, 1]."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, of the training images in [0, 1]; 1 for a channel that never changes."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        images = self.train.images
        scale = 255 if images.dtype == np.uint8 else 1
        total, squares = np.zeros((2, images.shape[1]))
        for start in range(0, len(images), 1000):  # in pieces: float64 copies of everything can be large
            pixels = images[start : start + 1000].astype(np.float64) / scale
            total += pixels.sum((0, 2, 3))
            squares += (pixels**2).sum((0, 2, 3))
        count = images.size // images.shape[1]
        mean = total / count
        variance = squares / count - mean**2
        return tuple(mean.tolist()), tuple(np.sqrt(np.where(variance > 1e-12, variance, 1.0)).tolist())

    def augmented(self, augment: Augment) -> "Suite":
        """The same suite with other random changes of training rows and outliers."""
        outliers = None if self.outliers is None else replace(self.outliers, augment=augment)
        return replace(self, train=replace(self.train, augment=augment), outliers=outliers)
