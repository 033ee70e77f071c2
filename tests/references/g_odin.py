"""Generalized ODIN in plain float64, one row at a time (Hsu et al., section 3)."""

import math
from collections.abc import Sequence

Row = Sequence[float]


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def similarity(form: str, features: Row, weight: Row, bias: float) -> float:
    """h of one class: an inner product, a negative squared distance, or a cosine."""
    if form == "inner":
        return dot(weight, features) + bias
    if form == "euclidean":
        return -sum((f - w) ** 2 for f, w in zip(features, weight, strict=True))
    return dot(weight, features) / math.sqrt(dot(weight, weight)) / math.sqrt(dot(features, features))


def gates(rows: Sequence[Row], gate: Row, scale: float, shift: float, of: Sequence[Row]) -> list[float]:
    """g = σ(BN(w·f)) of some rows, with the batch norm's statistics of others."""
    projected = [dot(gate, row) for row in of]
    mean = sum(projected) / len(projected)
    variance = sum((u - mean) ** 2 for u in projected) / len(projected)
    normed = [(dot(gate, row) - mean) / math.sqrt(variance + 1e-5) for row in rows]
    return [1 / (1 + math.exp(-(scale * v + shift))) for v in normed]


def unbiased(projected: Row) -> tuple[float, float]:
    """Mean and unbiased variance."""
    mean = sum(projected) / len(projected)
    return mean, sum((u - mean) ** 2 for u in projected) / (len(projected) - 1)


def perturbed(form: str, inputs: Row, weight: Sequence[Row], bias: Row, epsilon: float) -> list[float]:
    """x − ε·sign(−∂S/∂x), S = max_c h_c(x) of a network whose features are its inputs; slopes by finite differences."""

    def score(row: Row) -> float:
        return max(similarity(form, row, w, b) for w, b in zip(weight, bias, strict=True))

    moved = []
    for index, value in enumerate(inputs):
        above, below = ([*inputs[:index], value + step, *inputs[index + 1 :]] for step in (1e-6, -1e-6))
        moved.append(value - epsilon * math.copysign(1, -(score(above) - score(below))))
    return moved
