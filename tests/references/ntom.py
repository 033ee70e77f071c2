"""The choice of NTOM (Chen et al., 2021, algorithm 1), one row at a time."""

from collections.abc import Sequence


def chosen(unknown: Sequence[float], keep: int, quantile: float) -> list[int]:
    """Sort all N candidates by how unknown they look, leave out the lowest ⌊q·N⌋, and take the next ones."""
    left = list(range(len(unknown)))
    ascending = []
    while left:
        lowest = left[0]
        for place in left:
            if unknown[place] < unknown[lowest]:
                lowest = place
        ascending.append(lowest)
        left.remove(lowest)
    start = int(quantile * len(unknown))
    return ascending[start : start + keep]
