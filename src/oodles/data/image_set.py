"""Images or feature vectors with labels; the augmentation of images is a function of (seed, epoch, row) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oodles.data.augment import PLAIN, Augment, Changes, draw, ready, transformed
from oodles.data.decoded import Decoded, loader_workers, sample
from oodles.data.mapped import lies_in_file, stream
from oodles.memory import hand_back_memory

Index = int | tuple[int, int]
"""A row without augmentation, or an (epoch, row) pair: the row as augmented in that epoch."""
Rows = tuple[Float[Tensor, "n *row"], Int64[Tensor, " n"]]
PLAIN_ROW = -1
"""In an epoch's place: the row without augmentation."""
Ready = TypeVar("Ready")


def as_batch(batch: Ready) -> Ready:
    """Return a batch as it is: the ``collate_fn`` for image sets, which hand over whole batches."""
    return batch


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset[Any]):
    """A data set of images, or of feature vectors; an item is (float32 image in [0, 1] or vector, class id).

    A row's number gives the row as stored; an (epoch, row) pair gives it augmented, the same way in every process.
    Batches are made at once: hand loaders ``collate_fn=as_batch``, or use :meth:`loader`.

    Args:
        images: (N, C, H, W), uint8, or floating point in [0, 1]; in memory, or decoded on demand, as those of a
            ``np.memmap`` are, which is never all in memory. Or vectors (N, F), float32 of any range.
        labels: class ids (N,); −1 for rows of no known class.
        augment: the changes made to rows that are asked for by (epoch, row).
        seed: of the augmentation.
        names: one per row, where rows have names.

    Raises:
        ValueError: for arrays of other shapes or lengths, and an augmentation that these images do not allow.
    """

    images: NDArray[Any] | Decoded
    labels: NDArray[np.int64]
    augment: Augment = PLAIN
    seed: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if lies_in_file(self.images) and self.images.ndim == 4:
            object.__setattr__(self, "images", stream(self.images))
        if self.images.ndim not in (2, 4) or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images must have shape (N, C, H, W), or vectors (N, F), and labels (N,), got {self.images.shape} and "
                f"{self.labels.shape}."
            )
        self.augment.check_images(self.images.shape[1:])
        if self.augment.transforms is not None and len(self):
            self[0, 0]  # what the function does wrong is told now, and not by a worker in the middle of training

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Index) -> tuple[Float[Tensor, "*row"], int]:
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
        images = ready(pixels, self.changes(epochs, rows), self.augment.shift)
        if self.augment.transforms is not None:
            images = transformed(self.augment.transforms, images, self.seed, epochs, rows)
        return images, labels

    def changes(self, epochs: NDArray[np.int64], rows: NDArray[np.int64]) -> Changes | None:
        """Draw the augmentation of each row; nothing where no row is changed."""
        return draw(self.augment, self.seed, epochs, rows, self.images.shape)

    @property
    def can_stay(self) -> bool:
        """Tell whether a device may hold the images and make batches of them: not what only a CPU can do."""
        return isinstance(self.images, np.ndarray) and self.augment.transforms is None

    def evenly(self, count: int) -> "ImageSet":
        """Return at most ``count`` rows, spread evenly over the set, without augmentation."""
        return self if len(self) <= count else self.rows(sample(len(self), count))

    def rows(self, rows: NDArray[np.int64]) -> "ImageSet":
        """Return these rows, in memory and without augmentation."""
        names = tuple(self.names[row] for row in rows) if self.names else ()
        return ImageSet(self.images[rows], self.labels[rows], names=names)

    def take(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> "ImageSet":
        """Return these rows with other labels, augmented as before; on demand where images are decoded so."""
        images = self.images.take(rows) if isinstance(self.images, Decoded) else self.images[rows]
        names = tuple(self.names[row] for row in rows) if self.names else ()
        return replace(self, images=images, labels=labels, names=names)

    def fingerprint(self) -> str:
        """Hash images and labels, so that changed data is noticed."""
        images = self.images
        digest = sha256(images.fingerprint().encode() if isinstance(images, Decoded) else _bytes(images))
        digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def loader(self, batch_size: int = 256, *, shuffle: bool = False) -> "DataLoader[Any]":
        """Make a loader of rows without augmentation, in order or shuffled by torch's own seed."""
        workers = 0 if isinstance(self.images, np.ndarray) else loader_workers()
        return DataLoader(
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            collate_fn=as_batch,
            num_workers=workers,
            worker_init_fn=hand_back_memory,
        )

    def in_order(self, device: torch.device, batch_size: int = 500) -> Iterator[Rows]:
        """Give batches of rows without augmentation, made on a device where the images are in memory."""
        if not isinstance(self.images, np.ndarray):
            yield from self.loader(batch_size)
            return
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            pixels, labels = _tensor(self.images[rows]), _tensor(self.labels[rows])
            yield ready(pixels.to(device), None, 0), labels.to(device)


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


def _tensor(values: NDArray[Any]) -> Tensor:
    """Return a tensor that shares memory with the array, or a copy if that is not writable, of which torch warns."""
    return torch.from_numpy(np.require(values, requirements="W"))


class Resident:
    """An image set whose pixels lie on a device, as they are stored; it gives the same batches as the set itself.

    Args:
        images: a set that is in memory.
        device: where batches are made; on the CPU the pixels are shared with the set.
    """

    def __init__(self, images: ImageSet, device: torch.device):
        if not images.can_stay or isinstance(images.images, Decoded):
            raise TypeError(
                "images that are decoded on demand or changed by transforms cannot stay on a device: "
                "let a loader stream them."
            )
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
            changes = changes.to(device)
        return ready(self.pixels[places], changes, self.source.augment.shift), self.labels[places]
