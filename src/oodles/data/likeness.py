"""Images of a pool that are in a suite already: pixel by pixel, or as copies that were compressed or resized again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from oodles.data.augment import ready
from oodles.data.decoded import Decoded
from oodles.data.image_set import ImageSet
from oodles.data.overlaps import hashes
from oodles.data.texts import plain_text

SIDE = 8
"""Pixels a side of the grey thumbnails that are compared."""
LEAST = 0.9
"""The correlation of thumbnails that a copy has at least."""
OTHERS, RATIO = 5, 0.2
"""A copy is at most this share as far from its original as from the fifth-nearest row, distances being 1 − correlation.
In data whose images look alike, two trousers correlate by .98, which elsewhere are copies: so rows say what is near."""
BLOCK, NUMBERS = 1024, 2**23
"""So many rows are read at once, and no more of large images than hold so many numbers."""
PRODUCTS = 2**23
"""Correlations that are in memory at once."""
NONE = -1


def thumbnails(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 64"]:
    """Return the grey thumbnails of images, less their means and of length one; zero of those without change.

    Their inner products are correlations.
    """
    small = adaptive_avg_pool2d(images.mean(1, keepdim=True), SIDE).flatten(1)
    small = small - small.mean(1, keepdim=True)
    return torch.where(small.abs().amax(1, keepdim=True) > 1e-4, normalize(small), 0.0)


class Matches(NamedTuple):
    """Rows of a suite that rows of a block are like."""

    rows: NDArray[np.int64]
    """(n,) numbers over all sets of the suite, one after the other; −1 for a row that is in none of them."""
    exact: NDArray[np.bool_]
    """(n,) whether they are the same pixel by pixel, number by number or letter by letter."""


class Reference:
    """The rows of some sets, to be compared with: their contents, and of images the thumbnails.

    It takes about 400 bytes of memory for each row.

    Args:
        sets: images, feature vectors or texts, by their names.
    """

    def __init__(self, sets: Mapping[str, ImageSet], *, texts: bool = False):
        self.sets, self._texts = sets, texts
        self._starts = np.cumsum([0, *map(len, sets.values())])
        self._contents: dict[bytes, int] = {}
        self._words: dict[str, int] = {}
        small = []
        for (_, rows), start in zip(sets.items(), self._starts, strict=False):
            for place, pixels in blocks(rows.images):
                for row, content in enumerate(hashes(pixels), start + place):
                    self._contents.setdefault(content, row)
                if pixels.ndim == 4:
                    small.append(thumbnails(as_inputs(pixels)))
            if texts:
                for row, text in enumerate(rows.names, start):
                    self._words.setdefault(plain_text(text), row)
        self._thumbnails = torch.cat(small) if small else None

    def place(self, row: int) -> tuple[str, int]:
        """Return the set of a row that was numbered over all, and its number there."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        return list(self.sets)[index], row - int(self._starts[index])

    def find(self, pixels: NDArray[Any], contents: list[bytes], names: Sequence[str]) -> Matches:
        """Find the rows that a block of others is like.

        Args:
            pixels: (n, C, H, W) or (n, F).
            contents: their hashes.
            names: the texts, where rows are texts.
        """
        rows = np.array([self._contents.get(content, NONE) for content in contents], dtype=np.int64)
        exact = rows != NONE
        if self._texts:
            alike = np.array([self._words.get(plain_text(text), NONE) for text in names], dtype=np.int64)
            rows = np.where(exact, rows, alike)
        elif self._thumbnails is not None:
            rows[~exact] = self._nearly(thumbnails(as_inputs(pixels[~exact])))
        return Matches(rows, exact)

    def _nearly(self, queries: Float[Tensor, "n 64"]) -> NDArray[np.int64]:
        """Return the row of which each thumbnail is that of a copy, or −1."""
        assert self._thumbnails is not None
        found = np.full(len(queries), NONE)
        others = min(OTHERS, len(self._thumbnails))
        step = max(1, PRODUCTS // len(self._thumbnails))
        for start in range(0, len(queries), step):
            alike = queries[start : start + step] @ self._thumbnails.T
            best, row = alike.max(1)
            near = (best >= LEAST).nonzero().flatten()  # few of most pools
            if len(near):
                fifth = alike[near].topk(others).values[:, -1]
                near = near[1 - best[near] <= RATIO * (1 - fifth)]
                found[start + near.numpy()] = row[near].numpy()
        return found


def rows_at_once(shape: Sequence[int]) -> int:
    """Return how many rows of a shape are read at once."""
    return max(1, min(BLOCK, NUMBERS // math.prod(shape)))


def blocks(images: NDArray[Any] | Decoded) -> Iterator[tuple[int, NDArray[Any]]]:
    """Give the rows of a set in blocks, each with the number of its first row."""
    step = rows_at_once(images.shape[1:])
    for start in range(0, len(images), step):
        rows = range(start, min(start + step, len(images)))
        yield start, images.decode(rows) if isinstance(images, Decoded) else images[rows.start : rows.stop]


def as_inputs(pixels: NDArray[Any]) -> Tensor:
    """Return rows as networks take them: images float32 in [0, 1]."""
    return ready(torch.from_numpy(np.require(pixels, requirements="W")), None, 0)
