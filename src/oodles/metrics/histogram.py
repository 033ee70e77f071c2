"""Scores of more rows than fit into memory, counted."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oodles.metrics.numbers import numbers

if TYPE_CHECKING:
    from oodles.metrics.numbers import Values

MOST = 2**21
"""A histogram tells so many different numbers apart."""
COARSEST = 12
"""Of the 23 binary digits behind a float32's leading one, at most so many are left out."""


class Histogram:
    """Scores counted in bounded memory, for pixels by the hundred million: some 30 MB, and as much again while adding.

    Up to two million scores, and as long as two million float32 numbers tell them apart, all metrics are exact. Beyond,
    neighbours are counted as equal: numbers that share their leading binary digits, at least 11 behind the first one,
    and that few scores have, a two hundred thousandth of all or so. What that does to a metric is bounded by
    :func:`metric_bounds`: typically less than 1e-6, and it is known.

    Args:
        most: how many different numbers are told apart.

    Example:
        >>> from oodles.metrics import auroc
        >>> known, unknown = Histogram(), Histogram()
        >>> for scores in (np.array([0.1, 0.2]), np.array([0.4])):
        ...     known.add(scores)
        >>> unknown.add(np.array([0.3, 0.5]))
        >>> round(auroc(known, unknown), 4)
        0.8333
    """

    def __init__(self, most: int = MOST):
        self._most = most
        self._size = 0
        self._waiting: list[NDArray[Any]] = []  # added, and not yet counted
        self._waits = 0
        self._bins = Bins(*np.zeros((3, 0), dtype=np.int64))
        self._rounded = False

    def __len__(self) -> int:
        return self._size

    def add(self, scores: "Values") -> None:
        """Count further scores, of any shape.

        Raises:
            TypeError: for what are no numbers.
            ValueError: for NaN.
        """
        values = numbers("scores", scores)
        self._waiting.append(values.copy())
        self._size += values.size
        self._waits += values.size
        if self._waits > self._most:
            self._bins = self._counted()
            self._rounded |= any(values.dtype.itemsize > 4 for values in self._waiting)
            self._waiting, self._waits = [], 0

    @property
    def values(self) -> NDArray[Any] | None:
        """Return all scores, while there are few enough to be kept."""
        if len(self._bins.key):
            return None
        return np.concatenate([np.empty(0, dtype=np.float32), *self._waiting])

    def bins(self) -> "Bins":
        """Return the intervals of float32 numbers in which there are scores, and how many each holds."""
        return self._counted()

    @property
    def rounds(self) -> bool:
        """Tell whether scores of more digits are among those that are counted as float32 numbers."""
        return self._rounded or any(values.dtype.itemsize > 4 for values in self._waiting)

    def _counted(self) -> "Bins":
        key, count = np.unique(_keys(np.concatenate([np.empty(0, np.float32), *self._waiting])), return_counts=True)
        bins = joined(self._bins, Bins(key, np.zeros_like(key), count.astype(np.int64)))
        share, coarsest = max(1, 4 * self._size // self._most), COARSEST
        while len(bins.key) > self._most:
            for level in range(1, coarsest + 1):
                bins = _coarser(bins, level, share)
                if len(bins.key) <= self._most * 3 // 4:
                    break
            share, coarsest = 2 * share, coarsest + (share > self._size)  # the latter in small histograms alone
        return bins


class Bins(NamedTuple):
    """Intervals of float32 numbers in ascending order, none inside another, and how many scores are in each."""

    key: NDArray[np.int64]
    """The place of the lowest number among all float32 numbers."""
    level: NDArray[np.int64]
    """An interval has 2 to the power of its level numbers, and begins at a multiple of that."""
    scores: NDArray[np.int64]


def _keys(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of each number among all float32 numbers, from the lowest up; −0 is 0."""
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.int64)
    return np.where(bits >> 31, (1 << 32) - 1 - bits, bits + (1 << 31))


def joined(*several: Bins) -> Bins:
    """Count the scores of several histograms together: in the larger of two intervals where one is inside the other."""
    key, level, count = (np.concatenate(parts) for parts in zip(*several, strict=True))
    order = ((key << 5) - level).argsort(kind="stable")  # larger ones first; sorted runs are only merged
    key, level, count = key[order], level[order], count[order]
    ends = np.maximum.accumulate(key + (1 << level))
    first = np.flatnonzero(np.append(True, key[1:] >= ends[:-1])[: len(key)])
    return Bins(key[first], level[first], np.add.reduceat(count, first) if len(first) else count)


def _coarser(bins: Bins, level: int, share: int) -> Bins:
    """Join intervals that lie in one of the given level, where they hold at most ``share`` scores together."""
    parent = bins.key >> level
    first = np.flatnonzero(np.append(True, parent[1:] != parent[:-1]))
    total, sizes = np.add.reduceat(bins.scores, first), np.diff(np.append(first, len(parent)))
    join = (total <= share) & (sizes > 1)
    kept = ~np.repeat(join, sizes)
    kept[first] = True
    key, levels, count = (values.copy() for values in bins)
    key[first[join]] = parent[first[join]] << level
    levels[first[join]] = level
    count[first[join]] = total[join]
    return Bins(key[kept], levels[kept], count[kept])
