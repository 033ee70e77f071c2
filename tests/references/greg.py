"""Sharifi et al., 2024: slopes of energies, by differences along every single input."""

import math
from collections.abc import Callable, Sequence

Vector = Sequence[float]


def energy(logits: Vector) -> float:
    """−log Σ exp z."""
    return -math.log(sum(math.exp(z) for z in logits))


def slope(energy_of: Callable[[list[float]], float], x: Vector, step: float = 1e-5) -> float:
    """The length of the energy's gradient in one row."""
    square = 0.0
    for i in range(len(x)):
        up, down = list(x), list(x)
        up[i] += step
        down[i] -= step
        square += ((energy_of(up) - energy_of(down)) / (2 * step)) ** 2
    return math.sqrt(square)


def penalty(
    energy_of: Callable[[list[float]], float],
    known: Sequence[Vector],
    outliers: Sequence[Vector],
    margin_in: float,
    margin_out: float,
) -> float:
    """The mean slope of known rows below one margin, and of outliers above the other; others count as 0."""
    inside = [slope(energy_of, x) if energy_of(list(x)) < margin_in else 0.0 for x in known]
    outside = [slope(energy_of, o) if energy_of(list(o)) > margin_out else 0.0 for o in outliers]
    return sum(inside) / len(inside) + sum(outside) / len(outside)
