"""Images of a pool that are in a suite already: pixel by pixel, or as copies that were compressed or resized again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize

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
LEVELS = 0.05
"""Mean and deviation of a copy differ by no more from its original's."""
BLOCK, NUMBERS = 1024, 2**23
"""So many rows are read at once, and no more of large images than hold so many numbers."""
PRODUCTS = 2**23
"""Correlations that are in memory at once."""
NONE = -1


class Thumbnails(NamedTuple):
    """Grey thumbnails of images."""

    directions: Float[Tensor, "n 64"]
    """Less their means and of length one, so that inner products are correlations; zero of those without change."""
    levels: Float[Tensor, "n 2"]
    """Their means and deviations."""


def thumbnails(images: Float[Tensor, "n c h w"]) -> Thumbnails:
    """Return the thumbnails of images in [0, 1]."""
    small = interpolate(images.mean(1, keepdim=True), (SIDE, SIDE), mode="bilinear", antialias=True).flatten(1)
    deviations, means = torch.std_mean(small, 1, correction=0, keepdim=True)
    directions = torch.where(deviations > 1e-4, normalize(small - means), 0.0)
    return Thumbnails(directions, torch.cat([means, deviations], 1))


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
        texts: whether rows are texts, which their names are, and not what an encoder makes of them.
    """

    def __init__(self, sets: Mapping[str, ImageSet], *, texts: bool = False):
        self.sets, self._texts = sets, texts
        self._starts = np.cumsum([0, *map(len, sets.values())])
        self._contents: dict[bytes, int] = {}
        small = []
        for rows, start in zip(sets.values(), self._starts, strict=False):
            for place, pixels in blocks(rows.images):
                contents = self.contents(pixels, rows.names[place : place + len(pixels)])
                for row, content in enumerate(contents, start + place):
                    self._contents.setdefault(content, row)
                if pixels.ndim == 4:
                    small.append(thumbnails(as_inputs(pixels)))
        self._thumbnails = Thumbnails(*map(torch.cat, zip(*small, strict=True))) if small else None

    def place(self, row: int) -> tuple[str, int]:
        """Return the set of a row that was numbered over all, and its number there."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        return list(self.sets)[index], row - int(self._starts[index])

    def contents(self, pixels: NDArray[Any], names: Sequence[str]) -> list[bytes]:
        """Return a hash of each row: of its numbers, or of a text without what near-duplicates may differ by."""
        if not self._texts:
            return list(hashes(pixels))
        return [blake2b(plain_text(text).encode("utf-8", "replace"), digest_size=16).digest() for text in names]

    def find(self, pixels: NDArray[Any], contents: Sequence[bytes], names: Sequence[str]) -> Matches:
        """Find the rows that a block of others is like.

        Args:
            pixels: (n, C, H, W) or (n, F).
            contents: what :meth:`contents` gives for them.
            names: the texts, where rows are texts.
        """
        rows = np.array([self._contents.get(content, NONE) for content in contents], dtype=np.int64)
        exact = rows != NONE
        if self._texts:
            exact[exact] = [names[place] == self._text(rows[place]) for place in np.flatnonzero(exact).tolist()]
        elif self._thumbnails is not None and not exact.all():
            rows[~exact] = find_copies(thumbnails(as_inputs(pixels[~exact])), self._thumbnails)
        return Matches(rows, exact)

    def _text(self, row: int) -> str:
        name, number = self.place(row)
        return self.sets[name].names[number]


def find_copies(images: Thumbnails, originals: Thumbnails) -> NDArray[np.int64]:
    """Return the number of the original that each image is a copy of, or −1."""
    found = np.full(len(images.levels), NONE)
    others = min(OTHERS, len(originals.levels))
    step = max(1, PRODUCTS // len(originals.levels))
    for start in range(0, len(found), step):
        alike = images.directions[start : start + step] @ originals.directions.T
        best, row = alike.max(1)
        levels = (images.levels[start : start + step] - originals.levels[row]).abs().amax(1)
        near = ((best >= LEAST) & (levels <= LEVELS)).nonzero().flatten()  # few of most pools
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
