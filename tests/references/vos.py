"""Du et al., 2022: class means, the covariance that they share, and the loss of energies, one row at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def moments(rows: Rows, targets: Rows) -> tuple[list[list[float]], list[list[float]]]:
    """Means of classes, and the mean of (h − μ)(h − μ)ᵀ over rows and classes by their probability."""
    classes, size = range(len(targets[0])), range(len(rows[0]))
    means = []
    for c in classes:
        mass = sum(y[c] for y in targets)
        means.append([sum(y[c] * row[f] for row, y in zip(rows, targets, strict=True)) / mass for f in size])
    covariance = [[0.0] * len(size) for _ in size]
    for row, y in zip(rows, targets, strict=True):
        for c in classes:
            for f in size:
                for g in size:
                    covariance[f][g] += y[c] * (row[f] - means[c][f]) * (row[g] - means[c][g]) / len(rows)
    return means, covariance


def loss(known: Rows, virtual: Rows, slope: float, bias: float) -> float:
    """E_known[−log σ(φ)] + E_virtual[−log(1 − σ(φ))] with φ = −slope·E + bias and the energy E = −log Σ exp z."""
    total = 0.0
    for rows, sign in ((known, 1.0), (virtual, -1.0)):
        for row in rows:
            phi = slope * math.log(sum(math.exp(z) for z in row)) + bias
            total += math.log(1 + math.exp(-sign * phi)) / len(rows)
    return total
