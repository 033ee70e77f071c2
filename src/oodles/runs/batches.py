"""The order of training data: the batch of a position is a function of (seed, position, process)."""

from copy import copy
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from torch.utils.data import Dataset

from oodles.data import ImageSet, Suite
from oodles.data.image_set import Resident, Rows
from oodles.randomness import ID_ORDER, OUTLIER_ORDER
from oodles.runs.recipe import Recipe


class Batches(Dataset[tuple[Rows, Rows | None]]):
    """Every batch of a training run, in order: in-distribution rows, and outliers where methods need them.

    Any position can be read alone, so a run resumes in the middle of an epoch without replaying it, and the batches do
    not depend on the number of workers that load them, if any: :meth:`resident` gives the same ones. Each epoch drops
    the rows that fill no whole step of the optimizer, different ones each time. Outliers have no epochs: they are
    shuffled anew after each pass over them, so all are used however short an epoch is. Each of several processes gets
    its share of every batch.

    Raises:
        ValueError: where there are fewer rows than a step takes, or the processes cannot share a batch evenly.
    """

    def __init__(self, suite: Suite, recipe: Recipe, *, outliers: bool, accumulate: int, process: int, processes: int):
        rows, needed = len(suite.train), recipe.batch_size * accumulate
        if rows < needed:
            raise ValueError(
                f"A step takes {needed} training rows, and there are {rows}: lower the batch size or the accumulation."
            )
        for name in ("batch_size", "outlier_batch_size"):
            if getattr(recipe, name) % processes:
                raise ValueError(
                    f"{name} must be a multiple of the {processes} processes, got {getattr(recipe, name)}."
                )
        self.suite = suite if outliers else replace(suite, outliers=None)
        self.train: ImageSet | Resident = self.suite.train
        self.outliers: ImageSet | Resident | None = self.suite.outliers
        self.recipe = recipe
        self.accumulate = accumulate
        self.share = slice(process, None, processes)
        self.per_epoch = rows // needed * accumulate

    def resident(self, device: torch.device) -> "Batches":
        """Return the same batches, made on a device that holds all images."""
        other = copy(self)
        other.train = Resident(self.suite.train, device)
        other.outliers = None if self.suite.outliers is None else Resident(self.suite.outliers, device)
        return other

    def __len__(self) -> int:
        return self.per_epoch * self.recipe.epochs

    def __getitem__(self, position: int) -> tuple[Rows, Rows | None]:
        epoch, place = divmod(position, self.per_epoch)
        size = self.recipe.batch_size
        known = self._rows(self.train, epoch * len(self.train) + place * size, size, ID_ORDER)
        if self.outliers is None:
            return known, None
        size = self.recipe.outlier_batch_size
        return known, self._rows(self.outliers, position * size, size, OUTLIER_ORDER)

    def _rows(self, images: ImageSet | Resident, start: int, size: int, use: int) -> Rows:
        """Return this process's share of ``size`` rows, counted from the first row of the first pass."""
        epochs, places = np.divmod(np.arange(start, start + size)[self.share], len(images))
        rows = np.empty_like(places)
        for epoch in np.unique(epochs):
            rows[epochs == epoch] = _order(self.recipe.seed, int(epoch), use, len(images))[places[epochs == epoch]]
        return images.batch(epochs, rows)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, use: int, rows: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng((seed, epoch, use)).permutation(rows)
