"""Images that do not fit into memory: rows are decoded whenever they are asked for."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from oodles.data.conversion import check_shape
from oodles.data.preprocess import Pixels, Shape, fit_image
from oodles.data.raw import BrokenImages, Listed, RawImages, broken_images

IN_MEMORY = 2 * 2**30
"""Bytes that the images of a set may take; those of larger sets are decoded whenever they are asked for."""


def convert(raw: RawImages, shape: Shape, resize: int | None = None, *, draft: bool = False) -> "Pixels | Decoded":
    """Return images (N, C, H, W) of one shape; see :func:`oodles.data.read_images`."""
    check_shape(shape)
    channels, height, width = shape
    images = raw.images
    if isinstance(images, np.ndarray):
        if images.shape[1:] != (height, width, channels):
            images = np.stack([fit_image(image, shape, resize) for image in images])
        return np.ascontiguousarray(np.moveaxis(images, 3, 1))
    images = images.drafted(shape, resize) if draft else images
    decoded = Decoded(images, (len(images), *shape), images[0].dtype, resize)
    return decoded if decoded.nbytes > IN_MEMORY else decoded.all()


def name_broken(sources: Iterable[RawImages]) -> None:
    """Refuse all images that cannot be used at once: decode them one by one, of each source as many as fit into memory.

    Raises:
        BrokenImages: that names them.
    """
    reasons: dict[str, str] = {}
    for raw in sources:
        left = IN_MEMORY if not isinstance(raw.images, np.ndarray) else 0
        for row in range(len(raw.images)):
            if left <= 0:
                break
            try:
                left -= raw.images[row].nbytes
            except BrokenImages as error:
                reasons |= error.reasons
    if reasons:
        raise broken_images(reasons)


MANY, BLOCK = 1000, 32
"""From so many images on, several processes decode them, so many at once each."""


@dataclass(frozen=True, eq=False)
class Decoded(Dataset[Pixels]):
    """Images that look like an array (N, C, H, W) of which rows can be taken, also by the workers of a loader.

    Args:
        listed: the images as they are stored.
        shape: (N, C, H, W).
        dtype: uint8, or float32 for images in [0, 1].
        resize: the shorter side of an image before its centre is cropped, see :func:`oodles.data.read_images`.
    """

    listed: Listed
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    resize: int | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that all of them would take in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[np.int64]) -> Pixels:
        """Decode rows: (n, C, H, W), or (C, H, W) of a single one."""
        if isinstance(rows, int | np.integer):
            return self._row(int(rows))
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        images = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for place, row in enumerate(chosen):
            images[place] = self._row(int(row))
        return images

    def all(self) -> Pixels:
        """Decode all rows, by several processes where there are many."""
        workers = loader_workers()
        if len(self) < MANY or workers < 2:
            return self[:]
        images = np.empty(self.shape, self.dtype)
        starts = range(0, len(self), BLOCK)
        loader = DataLoader(
            self,
            batch_sampler=[range(start, min(start + BLOCK, len(self))) for start in starts],
            collate_fn=_stacked,
            num_workers=workers,
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        for start, block in zip(starts, loader, strict=True):
            images[start : start + BLOCK] = block.numpy()
        return images

    def fingerprint(self) -> str:
        """Hash the mark of every row, for which none is decoded, and the pixels of a few."""
        digest = sha256(f"{self.shape} {self.dtype} {self.resize}".encode())
        for row in range(len(self)):
            digest.update(f"\n{self.listed.mark(row)}".encode("utf-8", "surrogateescape"))
        digest.update(self[sample(len(self), 16)].tobytes())
        return digest.hexdigest()

    def _row(self, row: int) -> Pixels:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row must be below {len(self)}, got {row}.")
        _, channels, height, width = self.shape
        image: Shape = (channels, height, width)
        pixels = fit_image(self.listed[row % len(self)], image, self.resize)
        if pixels.dtype != self.dtype:
            raise ValueError(f"images must all be {self.dtype}, but row {row} is {pixels.dtype}.")
        return np.moveaxis(pixels, 2, 0)


def loader_workers() -> int:
    """Return how many processes load images that do not fit into memory, or decode those that do."""
    return min(8, torch.get_num_threads())


def _stacked(images: Sequence[Pixels]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))  # tensors travel between processes in shared memory


def sample(rows: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` rows that are spread evenly over all; all of them where there are no more."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64))
