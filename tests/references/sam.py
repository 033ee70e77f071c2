"""Foret et al., 2021: the step up to the worst weights nearby, one number at a time."""

import math
from collections.abc import Callable, Sequence

Vector = Sequence[float]


def slopes(loss: Callable[[list[float]], float], w: Vector, step: float = 1e-6) -> list[float]:
    """The gradient of a loss by central differences."""
    found = []
    for i in range(len(w)):
        up, down = list(w), list(w)
        up[i] += step
        down[i] -= step
        found.append((loss(up) - loss(down)) / (2 * step))
    return found


def worst(gradient: Vector, radius: float) -> list[float]:
    """Equation 2 for p = 2: ρ·g / ‖g‖."""
    length = math.sqrt(sum(slope * slope for slope in gradient))
    return [radius * slope / length for slope in gradient]
