"""The order of training data: the batch of a position is a function of (seed, position, process)."""

import math
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from torch.utils.data import Dataset

from oodles.data import ImageSet, Suite
from oodles.data.image_set import Resident, Rows
from oodles.data.suite import Shares
from oodles.randomness import BALANCED_ORDER, FEWER_OUTLIERS, ID_ORDER, OUTLIER_ORDER, WILD_ORDER
from oodles.runs.frozen_part import Kept
from oodles.runs.recipe import Recipe

Images = ImageSet | Resident | Kept
ORDERS = {"outliers": OUTLIER_ORDER, "wild": WILD_ORDER}
"""What random numbers order the rows of a role."""


class Batches(Dataset[tuple[Rows, dict[str, Rows]]]):
    """Every batch of a training run, in order: in-distribution rows, and by role outliers and wild rows.

    Any position can be read alone, so a run resumes in the middle of an epoch without replaying it, and the batches do
    not depend on the number of workers that load them, if any: :meth:`resident` gives the same ones. Each epoch drops
    the rows that fill no whole step of the optimizer, different ones each time. Outliers and wild rows have no epochs:
    they are shuffled anew after each pass over them, so all are used however short an epoch is. Where some outliers
    have a share of their own, a pass holds each of those rows more or less than once, each time augmented anew. Each of
    several processes gets its share of every batch. With balanced sampling each epoch has as many rows of every class.

    Args:
        suite: the data.
        recipe: says how many rows a batch has, and the seed.
        roles: those of ``outliers`` and ``wild`` that methods need.
        accumulate: batches per step of the optimizer.
        process: the number of this process.
        processes: how many there are.

    Raises:
        ValueError: where there are fewer rows than a step takes, or the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        suite: Suite,
        recipe: Recipe,
        *,
        roles: Collection[str],
        accumulate: int,
        process: int,
        processes: int,
    ):
        rows, needed = len(suite.train), recipe.batch_size * accumulate
        if rows < needed:
            raise ValueError(
                f"A step takes {needed} training rows, and there are {rows}: lower the batch size or the accumulation."
            )
        others = {role: images for role, images in suite.others.items() if role in roles}
        for name in ("batch_size", "outlier_batch_size", *(["wild_batch_size"] if "wild" in others else [])):
            if getattr(recipe, name) % processes:
                raise ValueError(
                    f"{name} must be a multiple of the {processes} processes, got {getattr(recipe, name)}."
                )
        self.suite = replace(suite, outliers=others.get("outliers"), wild=others.get("wild"))
        self.chosen = {role: chosen_outliers(images, recipe) for role, images in others.items() if role == "outliers"}
        self.shares = {role: _shares(suite, role, self.chosen.get(role)) for role in others}
        self.train: Images = self.suite.train
        self.others: Mapping[str, Images] = others
        self.recipe = recipe
        self.accumulate = accumulate
        self.share = slice(process, None, processes)
        self.labels = suite.train.labels if recipe.balanced_sampling else None
        self._balanced: dict[int, Int64[np.ndarray, " n"]] = {}  # the last orders drawn, by epoch
        self.per_epoch = rows // needed * accumulate

    def resident(self, device: torch.device) -> "Batches":
        """Return the same batches, made on a device that holds all images."""
        other = copy(self)
        other.train = Resident(self.suite.train, device)
        other.others = {role: Resident(images, device) for role, images in self.suite.others.items()}
        return other

    def behind(self, kept: Mapping[str, Kept]) -> "Batches":
        """Return the same batches of what the frozen part of a network has given for the images of each set."""
        other = copy(self)
        other.train, other.others = kept["train"], {role: kept[role] for role in self.others}
        return other

    def __len__(self) -> int:
        return self.per_epoch * self.recipe.epochs

    def __getitem__(self, position: int) -> tuple[Rows, dict[str, Rows]]:
        epoch, place = divmod(position, self.per_epoch)
        size = self.recipe.batch_size
        alike = ((len(self.train), 1.0),)
        known = self._rows(self.train, alike, epoch * len(self.train) + place * size, size, ID_ORDER)
        sizes = {"outliers": self.recipe.outlier_batch_size, "wild": self.recipe.wild_batch_size}
        return known, {
            role: self._rows(
                images, self.shares[role], position * sizes[role], sizes[role], ORDERS[role], self.chosen.get(role)
            )
            for role, images in self.others.items()
        }

    def _rows(
        self,
        images: Images,
        shares: Shares,
        start: int,
        size: int,
        use: int,
        chosen_rows: Int64[np.ndarray, " n"] | None = None,
    ) -> Rows:
        """Return this process's share of ``size`` rows, counted from the first row of the first pass."""
        passes, places = np.divmod(np.arange(start, start + size)[self.share], _length(shares))
        epochs, rows = np.empty_like(places), np.empty_like(places)
        for number in np.unique(passes):
            chosen = passes == number
            epochs[chosen], rows[chosen] = self._pass(int(number), use, shares)[:, places[chosen]]
        return images.batch(epochs, rows if chosen_rows is None else chosen_rows[rows])

    def _pass(self, number: int, use: int, shares: Shares) -> Int64[np.ndarray, "2 n"]:
        if self.labels is None or use != ID_ORDER:
            return _pass(self.recipe.seed, number, use, shares)
        if number not in self._balanced:
            self._balanced = {number: balanced_order(self.labels, self.recipe.seed, number)}
        rows = self._balanced[number]
        return np.stack([np.full_like(rows, number), rows])


def chosen_outliers(outliers: ImageSet, recipe: Recipe) -> Int64[np.ndarray, " n"] | None:
    """Return the rows of the outliers that a run may train on, drawn by its seed where these are fewer than all."""
    most = recipe.max_outliers
    if most is None or most >= len(outliers):
        return None
    return np.sort(np.random.default_rng((recipe.seed, FEWER_OUTLIERS)).permutation(len(outliers))[:most])


def _shares(suite: Suite, role: str, chosen: Int64[np.ndarray, " n"] | None) -> Shares:
    """Return the stretches of a role's rows with their shares: of those that are chosen, in the same proportions."""
    shares = (suite.outlier_shares if role == "outliers" else ()) or ((len(suite.others[role]), 1.0),)
    if chosen is None:
        return shares
    ends = np.cumsum([count for count, _ in shares])
    counts = np.diff(np.searchsorted(chosen, [0, *ends]))
    left = [(int(count), share) for count, (_, share) in zip(counts, shares, strict=True) if count]
    total = sum(share for _, share in left)
    return tuple((count, share / total) for count, share in left)


def _length(shares: Shares) -> int:
    """Return how many rows a pass has: as many as there are, or the multiple in which each stretch has one."""
    rows = sum(count for count, _ in shares)
    return rows * math.ceil(1 / (rows * min(share for _, share in shares)))


@lru_cache(maxsize=4)
def _pass(seed: int, number: int, use: int, shares: Shares) -> Int64[np.ndarray, "2 n"]:
    """Return the rows of a pass in order, below how often each was drawn before.

    Each stretch of rows is shuffled anew whenever all of its rows were drawn, so over passes these come equally often.
    """
    length, first, drawn = _length(shares), 0, []
    ends = np.cumsum([0.0, *(share for _, share in shares)]) * length
    starts, stops = (np.diff(np.rint(ends * passes)).astype(np.int64) for passes in (number, number + 1))
    for stretch, ((count, _), start, stop) in enumerate(zip(shares, starts, stops, strict=True)):
        epochs, places = np.divmod(np.arange(start, stop), count)
        for epoch in np.unique(epochs):
            rows = places[epochs == epoch]
            if len(rows) < count:  # those of a whole pass over the stretch are shuffled below
                rows = np.random.default_rng((seed, epoch, use, 1 + stretch)).permutation(count)[rows]
            drawn.append(np.stack([np.full_like(rows, epoch), first + rows]))
        first += count
    return np.concatenate(drawn, axis=1)[:, np.random.default_rng((seed, number, use)).permutation(length)]


def balanced_order(labels: Int64[np.ndarray, " n"], seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """Return n rows with equal numbers of every class there is, but for one, in random order.

    A class gives each of its rows before it gives one again.
    """
    random = np.random.default_rng((seed, epoch, BALANCED_ORDER))
    classes = random.permutation(np.unique(labels))  # some, others in each epoch, have one row more
    drawn = []
    for place, label in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        wanted = (len(labels) - place - 1) // len(classes) + 1
        passes = [random.permutation(rows) for _ in range(-(-wanted // len(rows)))]
        drawn.append(np.concatenate(passes)[:wanted])
    return random.permutation(np.concatenate(drawn))
