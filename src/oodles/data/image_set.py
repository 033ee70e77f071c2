"""Images with labels, whose augmentation is a function of (seed, epoch, row) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oodles.data.decoded import Decoded, sample

Index = int | tuple[int, int]
"""A row without augmentation, or an (epoch, row) pair: the row as augmented in that epoch."""
Rows = tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]
PLAIN_ROW = -1
"""In an epoch's place: the row without augmentation."""
Ready = TypeVar("Ready")


def as_batch(batch: Ready) -> Ready:
    """Return a batch as it is: the ``collate_fn`` for image sets, which hand over whole batches."""
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

    A row's number gives the row as stored; an (epoch, row) pair gives it augmented, the same way in every process.
    Batches are made at once: hand loaders ``collate_fn=as_batch``, or use :meth:`loader`.

    Args:
        images: (N, C, H, W), uint8, or floating point in [0, 1]; in memory, or decoded on demand.
        labels: class ids (N,); −1 for rows of no known class.
        augment: the changes made to rows that are asked for by (epoch, row).
        seed: of the augmentation.
        names: one per row, where rows have names.

    Raises:
        ValueError: for arrays of other shapes or lengths, and a shift that leaves nothing of an image.
    """

    images: NDArray[Any] | Decoded
    labels: NDArray[np.int64]
    augment: Augment = PLAIN
    seed: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images must have shape (N, C, H, W) and labels (N,), got {self.images.shape} and {self.labels.shape}."
            )
        height, width = self.images.shape[2:]
        if self.augment.shift and self.augment.shift >= min(height, width):
            raise ValueError(
                f"shift must be smaller than the sides of the images, {height} × {width} pixels, "
                f"got {self.augment.shift}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Index) -> tuple[Float[Tensor, "c h w"], int]:
        images, labels = self.__getitems__([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[Index]) -> Rows:
        """Return several rows as one batch."""
        pairs = [index if isinstance(index, tuple) else (PLAIN_ROW, index) for index in indices]
        epochs, rows = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return self.batch(epochs, rows)

    def batch(self, epochs: NDArray[np.int64], rows: NDArray[np.int64]) -> Rows:
        """Return rows as one batch, each augmented as in its epoch; below epoch 0 it is not augmented."""
        pixels, labels = torch.from_numpy(self.images[rows]), torch.from_numpy(self.labels[rows])
        return _ready(pixels, self.changes(epochs, rows), self.augment.shift), labels

    def changes(self, epochs: NDArray[np.int64], rows: NDArray[np.int64]) -> Int64[Tensor, "n 3"] | None:
        """Return the augmentation of each row, see :func:`_changes`; nothing where no row is changed."""
        if self.augment == PLAIN or (epochs < 0).all():
            return None
        changes = np.tile([self.augment.shift, self.augment.shift, 0], (len(rows), 1))
        for epoch in np.unique(epochs[epochs >= 0]):
            chosen = epochs == epoch
            changes[chosen] = _changes(self.augment, self.seed, int(epoch), len(self))[rows[chosen]]
        return torch.from_numpy(changes)

    def evenly(self, count: int) -> "ImageSet":
        """Return at most ``count`` rows, spread evenly over the set, without augmentation."""
        if len(self) <= count:
            return self
        rows = sample(len(self), count)
        names = tuple(self.names[row] for row in rows) if self.names else ()
        return ImageSet(self.images[rows], self.labels[rows], names=names)

    def fingerprint(self) -> str:
        """Hash images and labels, so that changed data is noticed."""
        images = self.images
        digest = sha256(images.fingerprint().encode() if isinstance(images, Decoded) else _bytes(images))
        digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def loader(self, batch_size: int = 256, *, shuffle: bool = False) -> "DataLoader[Any]":
        """Make a loader of rows without augmentation, in order or shuffled by torch's own seed."""
        workers = 0 if isinstance(self.images, np.ndarray) else loader_workers()
        return DataLoader(self, batch_size=batch_size, shuffle=shuffle, collate_fn=as_batch, num_workers=workers)

    def in_order(self, device: torch.device, batch_size: int = 500) -> Iterator[Rows]:
        """Give batches of rows without augmentation, made on a device where the images are in memory."""
        if not isinstance(self.images, np.ndarray):
            yield from self.loader(batch_size)
            return
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            pixels, labels = _tensor(self.images[rows]), _tensor(self.labels[rows])
            yield _ready(pixels.to(device), None, 0), labels.to(device)


def _bytes(images: NDArray[Any]) -> memoryview:
    """Return the bytes of an array, without a copy where it lies in one piece."""
    return np.ascontiguousarray(images).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class InOrder:
    """Batches of an image set in a fixed order on a device, as often as they are iterated over."""

    images: ImageSet
    device: torch.device

    def __iter__(self) -> Iterator[Rows]:
        return self.images.in_order(self.device)


@lru_cache(maxsize=8)
def _changes(augment: Augment, seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """Draw for each row of an epoch where its crop of the padded image begins (y, x), and 1 to mirror it, else 0."""
    random = np.random.default_rng((seed, epoch))
    corners = random.integers(0, 2 * augment.shift + 1, size=(rows, 2))
    mirrored = random.integers(0, 2, size=(rows, 1)) * augment.flip
    return np.concatenate([corners, mirrored], axis=1)


def loader_workers() -> int:
    """Return how many processes load images that do not fit into memory."""
    return min(8, torch.get_num_threads())


def _tensor(values: NDArray[Any]) -> Tensor:
    """Return a tensor that shares memory with the array, or a copy if that is not writable, of which torch warns."""
    return torch.from_numpy(np.require(values, requirements="W"))


def _ready(pixels: Tensor, changes: Tensor | None, shift: int) -> Float[Tensor, "n c h w"]:
    """Return pixels as networks take them: augmented as they are stored, then float32 in [0, 1]."""
    if changes is not None:
        height, width = pixels.shape[2:]
        y, x, mirrored = changes.T
        crops = F.pad(pixels, (shift, shift, shift, shift)).unfold(2, height, 1).unfold(3, width, 1)
        moved = crops[torch.arange(len(pixels), device=pixels.device), :, y, x]
        pixels = torch.where(mirrored[:, None, None, None] == 1, moved.flip(3), moved)
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


class Resident:
    """An image set whose pixels lie on a device, as they are stored; it gives the same batches as the set itself.

    Args:
        images: a set that is in memory.
        device: where batches are made; on the CPU the pixels are shared with the set.
    """

    def __init__(self, images: ImageSet, device: torch.device):
        if isinstance(images.images, Decoded):
            raise TypeError("images that are decoded on demand cannot stay on a device: let a loader stream them.")
        self.source = images
        self.pixels = _tensor(images.images).to(device)
        self.labels = _tensor(images.labels).to(device)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, epochs: NDArray[np.int64], rows: NDArray[np.int64]) -> Rows:
        """Return rows as one batch, see :meth:`ImageSet.batch`."""
        device = self.pixels.device
        # not waiting for the device: the CPU prepares the next batch meanwhile
        places, changes = torch.from_numpy(rows).to(device, non_blocking=True), self.source.changes(epochs, rows)
        if changes is not None:
            changes = changes.to(device, non_blocking=True)
        return _ready(self.pixels[places], changes, self.source.augment.shift), self.labels[places]
