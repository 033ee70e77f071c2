"""Images that do not fit into memory: rows are decoded whenever they are asked for."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oodles.data.conversion import check_shape
from oodles.data.image_files import quietly
from oodles.data.preprocess import Fit, Pixels, fit_image
from oodles.data.raw import BrokenImages, Chosen, Listed, RawImages, broken_images

IN_MEMORY = 2 * 2**30
"""Bytes that the images of a set may take; those of larger sets are decoded whenever they are asked for."""


def convert(
    raw: RawImages, fit: Fit, keep: "Callable[[Decoded], Pixels | Decoded] | None" = None
) -> "Pixels | Decoded":
    """Return images (N, C, H, W) of one shape; see :func:`oodles.data.read_images`.

    Args:
        raw: the images as they are stored.
        fit: how they get their shape.
        keep: what brings decoded images from somewhere else.
    """
    images = raw.images
    if isinstance(images, np.ndarray) and images.ndim == 2:
        if images.shape[1:] != fit.shape:
            wanted = f"features of {fit.shape[0]} numbers" if len(fit.shape) == 1 else "images"
            raise ValueError(f"{raw.place} must hold {wanted}, as train does, got vectors of {images.shape[1]}.")
        return images
    if len(fit.shape) == 1:
        raise ValueError(f"{raw.place} must hold features of {fit.shape[0]} numbers, as train does, got images.")
    channels, height, width = fit.shape
    if isinstance(images, np.ndarray):
        if images.shape[1:] != (height, width, channels):
            images = np.stack([fit_image(image, fit.shape, fit.resize) for image in images])
        return np.ascontiguousarray(np.moveaxis(images, 3, 1))
    first = images[0]
    if first.shape[2] in (1, 3):
        check_shape(fit.shape)
    decoded = Decoded(images, (len(images), *fit.shape), first.dtype, fit.resize, fit.draft)
    if keep is not None:
        return keep(decoded)
    return decoded.all() if decoded.fits else decoded


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


BLOCK = 16
"""Images that a thread decodes before it takes others."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images that look like an array (N, C, H, W) of which rows can be taken, also by the workers of a loader.

    Args:
        listed: the images as they are stored.
        shape: (N, C, H, W).
        dtype: uint8, or float32 for images in [0, 1].
        resize: the shorter side of an image before its centre is cropped, see :func:`oodles.data.read_images`.
        draft: whether JPEG files are decoded no larger than needed.
    """

    listed: Listed
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    resize: int | None = None
    draft: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that all of them would take in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def fits(self) -> bool:
        """Tell whether all of them may be in memory."""
        return self.nbytes <= IN_MEMORY

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[np.int64]) -> Pixels:
        """Decode rows: (n, C, H, W), or (C, H, W) of a single one."""
        if isinstance(rows, int | np.integer):
            return self._row(int(rows))
        chosen = np.array(range(len(self))[rows] if isinstance(rows, slice) else rows, dtype=np.int64)
        if strange := chosen[(chosen < -len(self)) | (chosen >= len(self))].tolist():
            raise IndexError(f"row must be below {len(self)}, got {strange[0]}.")
        chosen %= len(self)
        images = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for places, pixels in self.listed.fitted_rows(chosen, self._fit):
            images[places] = self._checked(pixels, int(chosen[places[0]]))
        return images

    def take(self, rows: NDArray[np.int64]) -> "Decoded":
        """Return some of the rows, which are decoded when they are asked for as well."""
        return replace(self, listed=Chosen(self.listed, rows), shape=(len(rows), *self.shape[1:]))

    def all(self) -> Pixels:
        """Decode all rows, side by side."""
        return self.decode(range(len(self)))

    def decode(self, rows: range) -> Pixels:
        """Decode rows, side by side: Pillow lets other threads run while it decodes and resizes."""
        images = np.empty((len(rows), *self.shape[1:]), self.dtype)

        def decode(places: range) -> None:
            images[places.start : places.stop] = self[[rows[place] for place in places]]

        blocks = [range(len(rows))[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        with quietly(), ThreadPoolExecutor(loader_workers()) as threads:
            list(threads.map(decode, blocks))  # the first that cannot be decoded ends it
        return images

    def fingerprint(self) -> str:
        """Hash the mark of every row, for which none is decoded, and the pixels of a few."""
        digest = sha256(f"{self.shape} {self.dtype} {self.resize}{' drafted' * self.draft}".encode())
        for mark in self.listed.marks(np.arange(len(self))):
            digest.update(f"\n{mark}".encode("utf-8", "surrogateescape"))
        digest.update(self[sample(len(self), 16)].tobytes())
        return digest.hexdigest()

    @property
    def _fit(self) -> Fit:
        return Fit(self.shape[1:], self.resize, self.draft)

    def _row(self, row: int) -> Pixels:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row must be below {len(self)}, got {row}.")
        row %= len(self)
        images: Pixels = self._checked(self.listed.fitted(row, self._fit)[None], row)[0]
        return images

    def _checked(self, pixels: Pixels, row: int) -> Pixels:
        """Return images (n, H, W, C) from ``row`` on as (n, C, H, W); refuse those of another type."""
        if pixels.dtype != self.dtype:
            raise ValueError(f"images must all be {self.dtype}, but row {row} is {pixels.dtype}.")
        return np.moveaxis(pixels, 3, 1)


def loader_workers() -> int:
    """Return how many threads decode images that fit into memory, or processes those that do not."""
    return min(8, torch.get_num_threads())


def sample(rows: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` rows that are spread evenly over all; all of them where there are no more."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64))
