"""Hofmann et al., 2024: energies of two memories, the border between them, draws without replacement, row by row."""

import math
from collections.abc import Sequence

Vector = list[float]
Rows = Sequence[Sequence[float]]


def unit(row: Sequence[float]) -> Vector:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row] if length else list(row)


def energy(row: Sequence[float], memory: Rows, beta: float) -> float:
    """−β⁻¹ log of the mean of exp(β·z·p), all at unit length."""
    z = unit(row)
    near = [math.exp(beta * sum(x * y for x, y in zip(z, unit(p), strict=True))) for p in memory]
    return -math.log(sum(near) / len(near)) / beta


def border_energy(row: Sequence[float], known: Rows, outliers: Rows, beta: float) -> float:
    """−β⁻¹ log(4·p·(1 − p)), p = m_in / (m_in + m_out) and 1 − p = m_out / (m_in + m_out), mean exponentials."""
    inside, outside = (math.exp(-beta * energy(row, memory, beta)) for memory in (known, outliers))
    return -math.log(4 * inside * outside / (inside + outside) ** 2) / beta


def loss(known: Rows, outliers: Rows, weight: float, beta: float) -> float:
    """−λ/2 × (the mean E_b of known rows + that of outliers)."""
    means = [sum(border_energy(row, known, outliers, beta) for row in rows) / len(rows) for rows in (known, outliers)]
    return -weight * sum(means) / 2


def chances(weights: Sequence[float], count: int) -> Vector:
    """How likely each place is among ``count`` draws, one after the other, of those that are left."""
    found = [0.0] * len(weights)
    for first, weight in enumerate(weights):
        chance = weight / sum(weights) if count else 0.0
        found[first] += chance
        if chance:
            left = [0.0 if place == first else other for place, other in enumerate(weights)]
            found = [a + chance * b for a, b in zip(found, chances(left, count - 1), strict=True)]
    return found


def score(row: Sequence[float], known: Rows, outliers: Rows, beta: float) -> float:
    return energy(row, known, beta) - energy(row, outliers, beta)
