"""A pool of rows that may become outliers, read in blocks as a suite reads its own; broken files are passed over."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oodles.data import Suite
from oodles.data.decoded import convert, loader_workers
from oodles.data.features import Features
from oodles.data.image_files import Files, quietly
from oodles.data.likeness import rows_at_once
from oodles.data.names import find
from oodles.data.preprocess import Fit, Pixels
from oodles.data.raw import BrokenImages, Listed
from oodles.data.sources import read_path

BLOCK = 16
"""Images that a thread reads before it takes others."""


class Block(NamedTuple):
    """Some rows of a pool."""

    rows: NDArray[np.int64]
    """(n,) their numbers, without the broken ones."""
    pixels: NDArray[Any]
    """(n, C, H, W), uint8 or float32 in [0, 1]; or vectors (n, F)."""
    broken: dict[int, str]
    """What is wrong with the files that cannot be read, by the row."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of a folder or file, which get the shape of a suite's when they are read; made by :func:`open_pool`.

    Args:
        path: the folder or file.
        names: one per row: file names, texts or numbers.
        images: (N, C, H, W), or vectors (N, F); or a list that decodes images one by one.
        fit: how listed images get their shape.
    """

    path: Path
    names: tuple[str, ...]
    images: Pixels | Listed
    fit: Fit

    def __len__(self) -> int:
        return len(self.names)

    @property
    def files(self) -> Files | None:
        """Return the image files, where it is a folder of them."""
        return self.images if isinstance(self.images, Files) and self.path.is_dir() else None

    def blocks(self) -> list[range]:
        """Return all rows in order, so many at once as fit into little memory."""
        step = rows_at_once(self.fit.shape)
        return [range(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def read(self, rows: Sequence[int]) -> Block:
        """Read some rows."""
        if isinstance(self.images, np.ndarray):
            numbers = np.asarray(rows, dtype=np.int64)
            return Block(numbers, self.images[numbers], {})
        parts = [np.array(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
        with quietly(), ThreadPoolExecutor(loader_workers()) as threads:
            read = dict(zip(rows, chain.from_iterable(threads.map(self._read, parts)), strict=True))
        broken = {row: result for row, result in read.items() if isinstance(result, str)}
        pixels = [result for result in read.values() if not isinstance(result, str)]
        numbers = np.array([row for row in rows if row not in broken], dtype=np.int64)
        return Block(numbers, _stacked(pixels, self.fit.shape), broken)

    def _read(self, rows: NDArray[np.int64]) -> list[Pixels | str]:
        """Return images (C, H, W), or what is wrong with them."""
        assert not isinstance(self.images, np.ndarray)
        read: dict[int, Pixels] = {}
        try:
            for places, images in self.images.fitted_rows(rows, self.fit):
                read |= zip(map(int, places), np.moveaxis(images, 3, 1), strict=True)
        except BrokenImages as error:
            if len(rows) == 1:
                return list(error.reasons.values())
            return [one for row in rows for one in self._read(np.array([row]))]
        return [read[place] for place in range(len(rows))]


def open_pool(path: str | Path, suite: Suite) -> Pool:
    """Open a folder of images, or a file of images, vectors or texts, whose rows get the shape of a suite's.

    Raises:
        FileNotFoundError: where nothing is at the path.
        ValueError: for what holds no such rows.
    """
    place = find(Path(path)) or Path(path)
    if suite.vectors:
        rows = (suite.features or Features()).read(place)
        return Pool(place, rows.names, rows.images[:], Fit(suite.input_shape))
    raw = read_path(place)
    fit = Fit(suite.input_shape, suite.resize, suite.draft)
    images = convert(raw, fit) if isinstance(raw.images, np.ndarray) else raw.images
    return Pool(place, raw.names, images, fit)  # type: ignore[arg-type]  # an array is converted into an array


def _stacked(images: Sequence[Pixels], shape: Sequence[int]) -> NDArray[Any]:
    """Return images as one array; in floating point where one of them is."""
    if not images:
        return np.empty((0, *shape), np.uint8)
    if len({image.dtype for image in images}) > 1:  # grey images of 16 bits among others
        images = [image / np.float32(255) if image.dtype == np.uint8 else image for image in images]
    return np.stack(images)
