"""Images with labels, whose augmentation is a function of (seed, epoch, row) alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Index = int | tuple[int, int]
"""A row as it is, or an (epoch, row) pair: that row augmented as it is in that epoch."""
Ready = TypeVar("Ready")


def as_batch(batch: Ready) -> Ready:
    """The ``collate_fn`` for image sets, which hand over whole batches."""
    return batch


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image.

    Args:
        shift: pixels by which an image moves at most, up or down and left or right; black comes in at the edge.
        flip: mirror half of the images left to right.

    Raises:
        ValueError: for a shift that is not a whole number of at least 0.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, int) or self.shift < 0:
            raise ValueError(f"shift must be a whole number of pixels of at least 0, got {self.shift!r}.")


PLAIN = Augment()
"""No changes."""


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset[Any]):
    """A data set of images; an item is (float32 image in [0, 1], class id).

    A row's number gives the row as it is; an (epoch, row) pair gives it augmented, the same way in every process.
    Batches are made at once: hand loaders ``collate_fn=as_batch``, or use :meth:`loader`.

    Args:
        images: (N, C, H, W), uint8, or floating point in [0, 1].
        labels: class ids (N,); −1 for rows of no known class.
        augment: the changes made to rows that are asked for by (epoch, row).
        seed: of the augmentation.
        names: one per row, where rows have names.

    Raises:
        ValueError: for arrays of other shapes or lengths.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    augment: Augment = PLAIN
    seed: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images must have shape (N, C, H, W) and labels (N,), got {self.images.shape} and {self.labels.shape}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Index) -> tuple[Float[Tensor, "c h w"], int]:
        images, labels = self.__getitems__([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[Index]) -> tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]:
        """Several rows as one batch."""
        pairs = [index if isinstance(index, tuple) else (-1, index) for index in indices]
        epochs, rows = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        images = self.images[rows]
        if self.augment != PLAIN:
            for epoch in np.unique(epochs[epochs >= 0]):
                chosen = epochs == epoch
                table = _changes(self.augment, self.seed, int(epoch), len(self))
                images[chosen] = _changed(images[chosen], table[rows[chosen]], self.augment.shift)
        pixels = torch.from_numpy(images.astype(np.float32))
        return pixels / 255 if images.dtype == np.uint8 else pixels, torch.from_numpy(self.labels[rows])

    def loader(self, batch_size: int = 256, *, shuffle: bool = False) -> "DataLoader[Any]":
        """Batches of rows as they are, in order or shuffled by torch's own seed."""
        return DataLoader(self, batch_size=batch_size, shuffle=shuffle, collate_fn=as_batch)


@lru_cache(maxsize=8)
def _changes(augment: Augment, seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """For each row of one epoch: where its crop of the padded image begins (y, x), and whether it is mirrored."""
    random = np.random.default_rng((seed, epoch))
    corners = random.integers(0, 2 * augment.shift + 1, size=(rows, 2))
    mirrored = random.integers(0, 2, size=(rows, 1)) * augment.flip
    return np.concatenate([corners, mirrored], axis=1)


def _changed(images: NDArray[Any], changes: NDArray[np.int64], shift: int) -> NDArray[Any]:
    y, x, mirrored = changes.T
    padded = np.pad(images, ((0, 0), (0, 0), (shift, shift), (shift, shift)))
    crops = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    moved = crops[np.arange(len(images)), :, y, x]
    return np.where(mirrored[:, None, None, None] == 1, moved[..., ::-1], moved)
