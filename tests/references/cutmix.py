"""CutMix (Yun et al., 2019), in plain float64: one pixel at a time."""

import math
from collections.abc import Sequence

from .equations import Rows


def box(lam: float, centre: tuple[float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the box of relative side √(1 − λ), clipped, its edges at the nearest pixels."""
    half = math.sqrt(1 - lam) / 2
    edges = []
    for middle, size in zip(centre, (height, width), strict=True):
        for edge in (middle - half, middle + half):
            edges.append(round(min(1.0, max(0.0, edge)) * size))
    return edges[0], edges[1], edges[2], edges[3]


def pasted(
    images: Rows, permutation: Sequence[int], boxes: Sequence[tuple[int, int, int, int]]
) -> tuple[Rows, list[float]]:
    """Images with a box of another one, and the share that is left (equation 1)."""
    result, shares = images.copy(), []
    height, width = images.shape[-2:]
    for index, (other, (top, bottom, left, right)) in enumerate(zip(permutation, boxes, strict=True)):
        replaced = 0
        for row in range(top, bottom):
            for column in range(left, right):
                result[index, ..., row, column] = images[other, ..., row, column]
                replaced += 1
        shares.append(1 - replaced / (height * width))
    return result, shares
