"""Generated outliers, one row and one number at a time."""

from collections.abc import Sequence

import numpy as np

Rows = np.ndarray


def partner(labels: Sequence[int], row: int, share: float) -> int:
    """Return the row that a share in [0, 1) draws for a row: of those of other classes in order of class, or of all."""
    others = [place for place in range(len(labels)) if labels[place] != labels[row]]
    others = sorted(others or range(len(labels)), key=lambda place: labels[place])
    return others[int(share * len(others))]


def mixture(first: Rows, second: Rows, share: float) -> Rows:
    return (1 - share) * first + share * second


def shuffled(row: Sequence[int], other: Sequence[int], order: Sequence[float], taken: Sequence[bool]) -> list[int]:
    """Return tokens whose places behind the first are exchanged in the order of random keys, some from another row."""
    mixed = [theirs if swap else own for own, theirs, swap in zip(row, other, taken, strict=True)]
    places = sorted(range(1, len(row)), key=lambda place: order[place])
    return [mixed[0], *(mixed[place] for place in places)]
