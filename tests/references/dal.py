"""Wang et al., 2023: the worst features in a ball around those of outliers, one number at a time."""

import math
from collections.abc import Sequence

Vector = Sequence[float]


def logits(h: Vector, weight: Sequence[Vector], bias: Vector) -> list[float]:
    """W·h + b."""
    return [sum(w * x for w, x in zip(row, h, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def to_uniform(z: Vector) -> float:
    """H(U, softmax(z))."""
    return math.log(sum(math.exp(value) for value in z)) - sum(z) / len(z)


def distance(e: Vector) -> float:
    """How far e leads: the mean of its absolute values."""
    return sum(abs(value) for value in e) / len(e)


def slope(h: Vector, e: Vector, weight: Sequence[Vector], bias: Vector, price: float) -> list[float]:
    """The gradient in e of H(U, softmax(W·(h + e) + b)) − γ·distance(e), by the closed form W^T·(p − 1/C)."""
    z = logits([a + b for a, b in zip(h, e, strict=True)], weight, bias)
    whole = sum(math.exp(value) for value in z)
    excess = [math.exp(value) / whole - 1 / len(z) for value in z]
    along = [sum(share * row[f] for share, row in zip(excess, weight, strict=True)) for f in range(len(h))]
    return [g - price * ((v > 0) - (v < 0)) / len(e) for g, v in zip(along, e, strict=True)]


def worst(
    h: Vector, weight: Sequence[Vector], bias: Vector, price: float, steps: int, step_length: float
) -> list[float]:
    """The ascent from e = 0 in steps of one length."""
    e = [0.0] * len(h)
    for _ in range(steps):
        uphill = slope(h, e, weight, bias, price)
        length = math.sqrt(sum(g * g for g in uphill))
        e = [v + step_length * g / length for v, g in zip(e, uphill, strict=True)]
    return e


def moved_price(price: float, mean_distance: float, radius: float, rate: float, limit: float) -> float:
    """γ ← min(max(γ − β(ρ − distance), 0), γ_max)."""
    return min(max(price - rate * (radius - mean_distance), 0.0), limit)
