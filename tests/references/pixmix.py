"""PixMix (Hendrycks et al., CVPR 2022) in plain float64, one image and one pixel at a time."""

from collections.abc import Sequence

import numpy as np

Mixing = tuple[str, np.ndarray, float, float]
"""``add`` or ``multiply``, what is mixed in, a and b."""


def add(x: float, picture: float, a: float, b: float) -> float:
    """a·x + b·picture, both on [−1, 1]."""
    return clipped((a * (2 * x - 1) + b * (2 * picture - 1) + 1) / 2)


def multiply(x: float, picture: float, a: float, b: float) -> float:
    """x^a · picture^b, both on [0, 2], and no zero to a negative power."""
    return clipped((2 * x) ** a * max(2 * picture, 1e-37) ** b / 2)


def clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def mixed(begin: np.ndarray, mixings: Sequence[Mixing]) -> np.ndarray:
    """An image, mixed again and again."""
    result = begin.copy()
    for name, picture, a, b in mixings:
        for place in np.ndindex(result.shape):
            mix = add if name == "add" else multiply
            result[place] = mix(float(result[place]), float(picture[place]), a, b)
    return result
